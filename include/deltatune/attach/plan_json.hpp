// The settings of the plans (attach/setting.hpp) in adapter_config.json, and what else they have in common there: lists of modules, the task.
//
// What reads is a template over its argument, which is always a JsonConfig: so a program that only writes adapters compiles none of it and needs
// no engine for regular expressions. Those are made in attach/read_pattern.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "deltatune/attach/plan.hpp"
#include "deltatune/attach/setting.hpp"
#include "deltatune/attach/targets.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/core/pattern.hpp"
#include "deltatune/io/json_config.hpp"

namespace deltatune::detail {

// A list of strings, or one string, or null.
template <class Json>
NameRule read_rule(const Json& json, const char* key) {
  NameRule rule;
  if (!json.has(key)) return rule;
  if (json.raw().at(key).is_string()) {
    rule.pattern = read_pattern(json, key);
  } else {
    rule.names = json.template get<std::vector<std::string>>(key);
  }
  return rule;
}

template <class E, class Json>
std::vector<E> one_or_many(const Json& json, const char* key) {
  if (!json.has(key)) return {};
  if (json.raw().at(key).is_array()) return json.template get<std::vector<E>>(key);
  return {json.template get<E>(key)};
}

DELTATUNE_FUNCTION nlohmann::json rule_json(const NameRule& rule) {
  if (!rule.pattern.empty()) return rule.pattern.text();
  if (!rule.names.empty()) return rule.names;
  return nullptr;
}

// Whole numbers as integers, as PEFT's configurations have them.
inline nlohmann::json whole_if_possible(double value) {
  return value == std::floor(value) && std::abs(value) < 1e15 ? nlohmann::json(static_cast<std::int64_t>(value)) : nlohmann::json(value);
}

// Settings by pattern as a list of [pattern, setting], in whose order they count: config_text() writes the object that it stands for.
template <class Setting>
nlohmann::json patterns_json(const std::vector<std::pair<Pattern, Setting>>& patterns) {
  nlohmann::json pairs = nlohmann::json::array();
  for (const auto& [pattern, setting] : patterns) {
    if constexpr (std::is_floating_point_v<Setting>) {
      pairs.push_back(nlohmann::json::array({pattern.text(), whole_if_possible(setting)}));
    } else {
      pairs.push_back(nlohmann::json::array({pattern.text(), setting}));
    }
  }
  return pairs;
}

// A configuration as a file's text: the keys sorted, as PEFT writes them, but those of rank_pattern and alpha_pattern in the order in which they count.
DELTATUNE_FUNCTION std::string config_text(const nlohmann::json& config) {
  const auto indented = [](std::string text) {
    for (std::size_t at = text.find('\n'); at != std::string::npos; at = text.find('\n', at + 1)) text.insert(at + 1, "  ");
    return text;
  };
  const auto text_of = [](const nlohmann::json& value) { return value.dump(2, ' ', true); };
  std::string text;
  for (const auto& member : config.items()) {
    std::string value;
    if ((member.key() == "rank_pattern" || member.key() == "alpha_pattern") && member.value().is_array()) {
      for (const nlohmann::json& pair : member.value()) value += (value.empty() ? "{\n  " : ",\n  ") + text_of(pair.at(0)) + ": " + text_of(pair.at(1));
      value += value.empty() ? "{}" : "\n}";
    } else {
      value = text_of(member.value());
    }
    text += (text.empty() ? "{\n  " : ",\n  ") + text_of(member.key()) + ": " + indented(value);
  }
  return text + "\n}\n";
}

inline nlohmann::json list_or_null(const auto& list) { return list.empty() ? nlohmann::json(nullptr) : nlohmann::json(list); }

template <class Json>
Targets read_targets(const Json& json) {
  Targets targets;
  targets.include = read_rule(json, "target_modules");
  if (targets.include.pattern.text() == "all-linear") {
    targets.include = {};
    targets.all_linear = true;
  }
  targets.exclude = read_rule(json, "exclude_modules");
  targets.layers = one_or_many<std::int64_t>(json, "layers_to_transform");
  targets.layers_patterns = one_or_many<std::string>(json, "layers_pattern");
  return targets;
}

// paths: what was chosen, written where the targets are no list or expression of their own.
DELTATUNE_FUNCTION void write_modules(nlohmann::json& config_io, const Targets& targets, const std::vector<std::string>& paths) {
  config_io["target_modules"] = targets.include.empty() ? nlohmann::json(paths) : rule_json(targets.include);
  config_io["exclude_modules"] = rule_json(targets.exclude);
}
DELTATUNE_FUNCTION void write_targets(nlohmann::json& config_io, const Targets& targets, const std::vector<std::string>& paths) {
  write_modules(config_io, targets, paths);
  config_io["layers_to_transform"] = list_or_null(targets.layers);
  config_io["layers_pattern"] = list_or_null(targets.layers_patterns);
}

// Takes over the settings that the file has. all: it has to have all of them. own: those of the plan's own type as well, and these it has to have.
template <class Json>
void read_settings(const Json& json, const std::vector<Setting>& settings, bool all, bool own) {
  for (const Setting& setting : settings) {
    const char* const key = setting.key;
    if (*key == '\0' || (setting.only_own && !own)) continue;
    const bool required = all || setting.only_own;
    std::visit(
        [&]<class V>(const V& value) {
          if constexpr (std::is_same_v<V, Choice>) {
            if (required || json.has(key)) value.set(json.template get<std::string>(key), json.name() + ": " + key);
          } else if constexpr (std::is_same_v<V, Targets*>) {
            *value = read_targets(json);
          } else if constexpr (std::is_same_v<V, Patterns<Index>*> || std::is_same_v<V, Patterns<double>*>) {
            using T = typename std::remove_pointer_t<V>::value_type::second_type;
            if (!json.has(key)) return;
            const auto patterns = json.object(key);
            for (const std::string& pattern : patterns.keys()) value->emplace_back(read_key_pattern(patterns, pattern), patterns.template get<T>(pattern));
          } else {
            using T = std::remove_pointer_t<V>;
            *value = required ? json.template get<T>(key) : json.template get_or<T>(key, *value);
          }
        },
        setting.value);
  }
}

// paths: the sites that have a delta, for targets that are no list or expression of their own.
DELTATUNE_FUNCTION void write_settings(nlohmann::json& config_io, const std::vector<Setting>& settings, const std::vector<std::string>& paths, bool own) {
  for (const Setting& setting : settings) {
    if (*setting.key == '\0' || (setting.only_own && !own)) continue;
    std::visit(
        [&]<class V>(const V& value) {
          if constexpr (std::is_same_v<V, Choice>) {
            config_io[setting.key] = value.word();
          } else if constexpr (std::is_same_v<V, Targets*>) {
            write_targets(config_io, *value, paths);
          } else if constexpr (std::is_same_v<V, Patterns<Index>*> || std::is_same_v<V, Patterns<double>*>) {
            config_io[setting.key] = patterns_json(*value);
          } else if constexpr (std::is_same_v<V, double*>) {
            config_io[setting.key] = *value == 0 ? nlohmann::json(0.0) : whole_if_possible(*value);
          } else {
            config_io[setting.key] = *value;
          }
        },
        setting.value);
  }
}

// PEFT's name for weights stored transposed, (in, out): whether one of the sites at `paths` has such a weight.
template <class Model>
bool fan_in_fan_out(Model& model, const std::vector<std::string>& paths) {
  bool transposed = false;
  model.visit_sites(
      [&](auto& site) { transposed = transposed || (site.weight.transposed_in_file() && std::find(paths.begin(), paths.end(), site.path) != paths.end()); });
  return transposed;
}

// What every plan has.
template <class Json>
void read_base(const Json& json, PlanBase& plan_io) {
  const auto text = [&](const char* key, const char* fallback) { return json.template get_or<std::string>(key, fallback); };
  const std::string bias = text("bias", "none");
  if (bias != "none" && bias != "all" && bias != "lora_only" && bias != "vera_only" && bias != "MiSS_only")
    throw Error(json.name() + ": bias", "unknown value", {.expected = "none, all or lora_only", .got = "\"" + bias + "\""});
  plan_io.bias = bias == "all" ? BiasTraining::all : bias == "none" ? BiasTraining::none : BiasTraining::targets;
  plan_io.modules_to_save = one_or_many<std::string>(json, "modules_to_save");
  plan_io.ensure_weight_tying = json.template get_or<bool>("ensure_weight_tying", false);
  const std::string task = text("task_type", "");
  if (task == "SEQ_CLS" || task == "TOKEN_CLS")
    for (const std::string& head : kPeftOutputModules)
      if (std::find(plan_io.modules_to_save.begin(), plan_io.modules_to_save.end(), head) == plan_io.modules_to_save.end())
        plan_io.modules_to_save.push_back(head);
}

}  // namespace deltatune::detail
