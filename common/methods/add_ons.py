"""Options that change what a strategy's sites send, or add an exchange of their own."""

from fedtransfer.common.methods.method import RIDGES, AddOn, Verdict, heads, nothing, refused

_AS_THE_STRATEGY = Verdict(True, "as the strategy")
_COUNTS_ADD_UP = Verdict(True, "counts add up")
_OWN_RELEASE = refused("it would be a release of its own, unaccounted")
_SCORES = refused("sites would say how their personal heads do (a site may fine-tune its result by itself)")
_DROWNED = refused("noise on the numbers of whole convolutions would drown them")
_NO_BOUND = refused("it is for a head alone: convolutions have no bound in closed form")
_EXACT = refused(
    "it would tell mean and deviation of the sites' features exactly; public statistics cost nothing"
)

INIT = AddOn(
    ask="--init fedncm|fed3r|fedcof|robust-lda",
    settings=("init",),
    paper="arXiv 2306.03937, 2406.01116, 2412.14326",
    sends="the one-shot head's sums, once (counted here: fed3r), then as the strategy",
    leaks="what the one-shot head's sums do, and what the strategy does",
    down=heads(1),
    up=heads(1),
    before=(heads(RIDGES), lambda s: s.gram),
    masks=Verdict(True, "as the two"),
    dp=_OWN_RELEASE,
)
PERSONAL = AddOn(
    ask="--personal-epochs N",
    settings=("personal_epochs",),
    paper="arXiv 1909.12488; mixing: 2003.13461",
    sends="once, in the end: images of its test split, and how many four heads get right",
    leaks="accuracy at the site of its own heads; the heads themselves stay there",
    down=heads(1),
    up=nothing,
    once=True,
    masks=_COUNTS_ADD_UP,
    dp=_SCORES,
)
TRAINABLE = AddOn(
    ask="--trainable LAYER",
    settings=("trainable",),
    paper="He et al. 2016, arXiv 1603.05027; head first: 2202.10054",
    sends="n · (change of head and convolutions from LAYER on; counted here: conv5), n",
    leaks="as fedavg, and far more: gradients of convolutions are what images are best rebuilt from",
    down=lambda s: s.deep_head,
    up=lambda s: s.deep_head,
    masks=_AS_THE_STRATEGY,
    dp=_DROWNED,
    note="features are stored where the network is cut",
)
UNFREEZING = AddOn(
    ask="--unfreeze-at ROUND:LAYER",
    settings=("unfreeze_at",),
    paper="arXiv 1801.06146",
    sends="as --trainable LAYER from ROUND on, and the head alone before (counted here: conv5 in all rounds)",
    leaks="as --trainable",
    down=lambda s: s.deep_head,
    up=lambda s: s.deep_head,
    masks=_AS_THE_STRATEGY,
    dp=_NO_BOUND,
)
STATISTICS = AddOn(
    ask="--standardise federated",
    settings=("standardise",),
    value="federated",
    paper="sums of x and x²",
    sends="sums of features and of their squares, once",
    leaks="mean and deviation of the site's features; of a site with one image, its features",
    down=nothing,
    up=lambda s: s.moments,
    once=True,
    masks=Verdict(True, "sums only"),
    dp=_EXACT,
    note="every later message to a site carries mean and deviation too",
)
ADD_ONS = (INIT, PERSONAL, TRAINABLE, UNFREEZING, STATISTICS)
