"""A coordinator on a network: certificates, enrolment, Flower's SuperLink and what watches over it."""
