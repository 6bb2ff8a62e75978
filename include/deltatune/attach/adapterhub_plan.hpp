// Being written (see /tmp/w/adapterhub_claims.md).
#pragma once
