// Being written by the helper for AdaLoRA, LN tuning and LoRA+.
#pragma once
