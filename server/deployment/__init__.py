"""A coordinator on a network: certificates, enrolment, Flower's SuperLink and its supervisor."""

# Of simulations only: deployed sites bring their images, and Flower's SuperLink carries messages.
OF_SIMULATIONS = {
    "data", "partition", "alpha", "classes_per_site", "min_images", "engine", "ray_address", "client_cpus",
    "client_gpus", "prepared", "resume", "out", "store", "threads", "strict",
    "unseen_sites", "baselines", "hostile_sites", "attack", "attack_scale",
}  # fmt: skip
