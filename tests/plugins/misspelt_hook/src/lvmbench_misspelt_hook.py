"""A plugin whose hook has one letter too few."""

import lvmbench


@lvmbench.hookimpl
def lvmbench_model():
    return {"never-seen": "nowhere:Nothing"}
