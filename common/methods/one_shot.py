"""What the one-shot heads share."""

from fedtransfer.common.methods.method import Verdict, refused

SUMS_LEAK = (
    "exact label counts and class means; the sum of a class with one image is that image's feature vector, from"
    " which an image can be rebuilt"
)
SUMS_ADD_UP = Verdict(True, "sums and counts are sent, which add up")
NO_UPDATES = refused("it has no updates to clip, but sums of features; --dp image is for those")
