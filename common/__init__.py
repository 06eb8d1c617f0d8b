"""What server and client agree on: configuration, backbone, head, images, features, messages."""
