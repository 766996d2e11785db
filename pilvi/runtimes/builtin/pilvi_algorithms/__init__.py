"""SageMaker's built-in algorithms on open libraries: one module an algorithm, named after its image repository, on one shared kit."""
