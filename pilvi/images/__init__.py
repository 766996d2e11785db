"""Container images: manifests, layers, unpacking, building. Knows the OCI formats and nothing of AWS."""
