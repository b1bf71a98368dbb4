"""The edge that reads the load: which pods are asked (`targets`), the asking (`scraper`), what is kept between polls (`feed`), and what the
accuracy checker sent meanwhile (`tally`). The pages are understood by the room `autoscaling` (`autoscaling.signals`)."""
