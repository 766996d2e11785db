"""Model servers of the framework images and of the built-in algorithms: what runs inside an endpoint's or a transform's program."""
