module polyfleet.io/sandbox/pause

go 1.26.0
