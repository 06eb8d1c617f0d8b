"""Federated transfer learning: sites that share a frozen, pretrained network fine-tune a small head together."""
