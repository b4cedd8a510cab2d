"""What an instance costs: a small table, so that nobody starts a clock without having seen it."""

# US dollars an hour, on demand, us-east-1, for endpoints and training alike, as AWS lists them at
# https://aws.amazon.com/sagemaker/ai/pricing/ (noted in 2025; other regions differ, and prices change).
REGION, NOTED = "us-east-1", "2025"
HOURLY = {
    "ml.t2.medium": 0.056,
    "ml.m5.large": 0.115,
    "ml.m5.xlarge": 0.23,
    "ml.m5.2xlarge": 0.461,
    "ml.m5.4xlarge": 0.922,
    "ml.c5.large": 0.102,
    "ml.c5.xlarge": 0.204,
    "ml.c5.2xlarge": 0.408,
    "ml.c5.4xlarge": 0.816,
    "ml.g4dn.xlarge": 0.7364,
    "ml.g5.xlarge": 1.408,
}
PAGE = "https://aws.amazon.com/sagemaker/ai/pricing/"


def hourly(instance, region):
    """US dollars an hour of one `instance`; None where the table does not know."""
    return HOURLY.get(instance) if region == REGION else None


def sentence(instance, region, count=1):
    """What `count` of `instance` cost an hour, or that this is unknown."""
    price = hourly(instance, region)
    if price is None:
        return f"the price of {instance} in {region} is unknown here; see {PAGE}"
    total = f", {count} of them ${price * count:.3f}" if count > 1 else ""
    return f"{instance} costs about ${price:.3f} an hour{total} ({region}, noted {NOTED})"
