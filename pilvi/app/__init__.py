"""The only place that knows everything: configuration, adapters, services, gateway; start, stop, health."""
