"""The edge that reads the load: which pods are asked (`targets`), the asking (`scraper`), a Prometheus for those that do not answer
(`prometheus`, and its answers as pages, `matrix`), what is kept between polls (`feed`), and what the accuracy checker sent meanwhile
(`tally`). The pages are understood by the room `autoscaling` (`autoscaling.signals`)."""
