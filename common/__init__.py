"""What server and client must agree on: configuration, backbone, head, images, features, messages."""
