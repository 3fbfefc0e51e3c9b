"""A plugin that gives a name which lvmbench gives too."""

import lvmbench


@lvmbench.hookimpl
def lvmbench_models():
    return {"iwae": "nowhere:Nothing"}
