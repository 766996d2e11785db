"""What runs inside a Lambda worker."""
