// The families that are known by config.json's model_type. A new one is its header and a line here; one of your own needs neither: give its function to
// Transformer::load().
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "deltatune/model/family/bart.hpp"
#include "deltatune/model/family/bert.hpp"
#include "deltatune/model/family/distilbert.hpp"
#include "deltatune/model/family/electra.hpp"
#include "deltatune/model/family/gemma.hpp"
#include "deltatune/model/family/gpt2.hpp"
#include "deltatune/model/family/granite.hpp"
#include "deltatune/model/family/llama.hpp"
#include "deltatune/model/family/modernbert.hpp"
#include "deltatune/model/family/mpnet.hpp"
#include "deltatune/model/family/olmo2.hpp"
#include "deltatune/model/family/phi3.hpp"
#include "deltatune/model/family/qwen.hpp"
#include "deltatune/model/family/roberta.hpp"
#include "deltatune/model/family/smollm3.hpp"
#include "deltatune/model/family/t5.hpp"

namespace deltatune {

using ArchitectureOf = Architecture (*)(const JsonConfig&);

struct Family {
  std::string_view model_type;
  ArchitectureOf architecture;
};

inline constexpr std::array kFamilies{
    Family{"bart", family::bart},
    Family{"bert", family::bert},
    Family{"camembert", family::camembert},
    Family{"distilbert", family::distilbert},
    Family{"electra", family::electra},
    Family{"gemma", family::gemma},
    Family{"gemma2", family::gemma2},
    Family{"gemma3_text", family::gemma3_text},
    Family{"gpt2", family::gpt2},
    Family{"granite", family::granite},
    Family{"llama", family::llama},
    Family{"mbart", family::mbart},
    Family{"mistral", family::mistral},
    Family{"modernbert", family::modernbert},
    Family{"mpnet", family::mpnet},
    Family{"mt5", family::mt5},
    Family{"olmo2", family::olmo2},
    Family{"phi3", family::phi3},
    Family{"qwen2", family::qwen2},
    Family{"qwen3", family::qwen3},
    Family{"roberta", family::roberta},
    Family{"smollm3", family::smollm3},
    Family{"t5", family::t5},
    Family{"umt5", family::umt5},
    Family{"xlm-roberta", family::xlm_roberta},
};

// By model_type. Throws Error for one that no family has, and for sizes that are missing or make no sense.
DELTATUNE_FUNCTION Architecture architecture_of(const JsonConfig& json) {
  const std::string type = json.get<std::string>("model_type");
  std::string known;
  for (const Family& family : kFamilies) {
    if (family.model_type == type) return family.architecture(json);
    known += (known.empty() ? "" : ", ") + std::string(family.model_type);
  }
  throw Error(json.name() + ": model_type", "unknown architecture", {.expected = "one of " + known, .got = "\"" + type + "\""});
}

}  // namespace deltatune
