"""One small file a step; pilvi.gateway.chain is their order. A step reads and completes the Call, or raises."""
