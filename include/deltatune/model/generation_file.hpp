// What a model's folder says of generation: its end-of-text tokens, and in generation_config.json the settings that its makers advise.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/model/config_fields.hpp"
#include "deltatune/model/next_token.hpp"

namespace deltatune {

// The end-of-text tokens, for GenerationConfig::end_ids: eos_token_id of generation_config.json, or of config.json where there is none. Either may be a number
// or a list. Throws Error for files that are damaged.
DELTATUNE_FUNCTION std::vector<std::int32_t> end_ids_of(const std::filesystem::path& folder) {
  for (const char* const name : {"generation_config.json", "config.json"}) {
    if (!std::filesystem::is_regular_file(folder / name)) continue;
    std::vector<std::int32_t> ids = detail::config_tokens(JsonConfig::open(folder / name), "eos_token_id");
    std::erase_if(ids, [](std::int32_t id) { return id < 0; });
    if (!ids.empty()) return ids;
  }
  return {};
}

struct GenerationFile {
  GenerationConfig config = {};
  std::vector<std::string> stop_strings = {};
  std::vector<std::string> ignored = {};  // settings that have no counterpart here
};

// The settings of generation_config.json as transformers' generate() takes them: without do_sample the likeliest token, with it a temperature of 1 and the 50
// likeliest tokens where the file does not say otherwise. The other fields are those of `config`. Throws Error where there is no such file, and for one that
// is damaged.
DELTATUNE_FUNCTION GenerationFile read_generation_config(const std::filesystem::path& folder, GenerationConfig config = {}) {
  const JsonConfig json = JsonConfig::open(folder / "generation_config.json");
  GenerationFile file{.config = std::move(config)};
  GenerationConfig& c = file.config;
  const double temperature = json.get_or<double>("temperature", 1.0);
  const Index top_k = json.get_or<std::int64_t>("top_k", 50);
  const double top_p = json.get_or<double>("top_p", 1.0), min_p = json.get_or<double>("min_p", 0.0);
  c.temperature = 0;
  c.top_k = 0;
  c.top_p = 1;
  c.min_p = 0;
  if (json.get_or<bool>("do_sample", false)) {
    c.temperature = temperature;
    c.top_k = top_k;
    c.top_p = top_p;
    c.min_p = min_p;
  }
  c.repetition_penalty = json.get_or<double>("repetition_penalty", 1.0);
  c.no_repeat_ngram_size = json.get_or<std::int64_t>("no_repeat_ngram_size", 0);
  c.num_beams = json.get_or<std::int64_t>("num_beams", 1);
  c.length_penalty = json.get_or<double>("length_penalty", 1.0);
  c.early_stopping = EarlyStopping::no;
  if (json.has("early_stopping"))
    c.early_stopping = json.raw().at("early_stopping") == "never"   ? EarlyStopping::never
                       : json.get_or<bool>("early_stopping", false) ? EarlyStopping::yes
                                                                    : EarlyStopping::no;
  c.min_new_tokens = json.get_or<std::int64_t>("min_new_tokens", 0);
  if (json.has("decoder_start_token_id")) {  // of an encoder-decoder: lengths count the start token
    c.min_new_tokens = std::max<Index>(c.min_new_tokens, json.get_or<std::int64_t>("min_length", 0) - 1);
    if (json.has("max_length")) c.max_new_tokens = std::max<Index>(1, json.get<std::int64_t>("max_length") - 1);
  }
  c.max_new_tokens = json.get_or<std::int64_t>("max_new_tokens", c.max_new_tokens);
  c.decoder_start_token_id = static_cast<std::int32_t>(json.get_or<std::int64_t>("decoder_start_token_id", -1));
  c.forced_bos_token_id = static_cast<std::int32_t>(json.get_or<std::int64_t>("forced_bos_token_id", -1));
  c.forced_eos_token_id = static_cast<std::int32_t>(json.get_or<std::int64_t>("forced_eos_token_id", -1));
  c.end_ids = end_ids_of(folder);
  if (json.has("stop_strings"))
    file.stop_strings = json.raw().at("stop_strings").is_array() ? json.get<std::vector<std::string>>("stop_strings")
                                                                 : std::vector<std::string>{json.get<std::string>("stop_strings")};
  for (const std::string& key : json.unread({"_from_model_config", "transformers_version", "eos_token_id", "bos_token_id", "pad_token_id", "use_cache"})) {
    const auto& value = json.raw().at(key);
    const bool is_neutral = value.is_number() && (value == 0 || value == 1);  // one beam, no length penalty, ...
    if (!is_neutral) file.ignored.push_back(key);
  }
  return file;
}

}  // namespace deltatune
