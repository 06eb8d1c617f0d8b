"""The gate in front of SuperLink's HTTP app: who may ask what, and how large it may be.

SuperLink reads a request before it checks who sent it, believes a site's word about where a message
comes from and goes to, and asks for no credential on its Control API. The gate runs in SuperLink's
process and passes on only what fits.
"""
