"""A first federation: five simulated sites with unequal shares of the bundled images."""

import fedtransfer as ft

if __name__ == "__main__":
    run = ft.simulate(sites=5, rounds=20, seed=1)

    print(f"federated {run.accuracy:.1%}, balanced {run.balanced_accuracy:.1%}")
    print(f"all data in one place {run.baselines.pooled:.1%}, each site alone {run.baselines.local_mean:.1%}")
    for site in run.sites:
        print(f"  {site['site']}: {site['images']} images, {site['accuracy']:.1%} on its own test images")
    print(f"report: {run.report()}")
