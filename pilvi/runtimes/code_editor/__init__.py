"""What runs inside a Code Editor app beside the editor itself."""
