"""The frozen, pretrained network and where it is cut."""
