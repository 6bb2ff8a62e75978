// What plan_json.hpp looks for while plans are read: regular expressions, and the starts of LoRA that change the weights. Needs deltatune::regex.
#pragma once

#include <string>

#include "deltatune/core/pattern.hpp"
#include "deltatune/delta/lora_start.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/regex.hpp"

namespace deltatune {

inline Pattern read_pattern(const JsonConfig& json, const char* key) { return regex(json.get<std::string>(key), json.name() + ": " + key); }
inline Pattern read_key_pattern(const JsonConfig& json, const std::string& key) { return regex(key, json.name()); }
inline LoraStart read_lora_start(const JsonConfig&, const std::string& name) { return name == "pissa" ? pissa() : olora(); }

}  // namespace deltatune
