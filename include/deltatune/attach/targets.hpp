// Which sites of a model a delta goes to: PEFT's target rules, strict about what matches nothing.
//
//   names      a site matches an entry that equals its path or its end after a dot: "query", "attention.output.dense"
//   pattern    one regular expression for the whole path (as Python's re.fullmatch)
//   all_linear every linear site but the model's output layer
// exclude uses the first two and wins. layers keeps the sites of some layers: the number after layers_pattern, or the first number between
// dots that follows a name.
#pragma once

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <iterator>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/path.hpp"
#include "deltatune/core/pattern.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/seam/architecture.hpp"

namespace deltatune {

// A list of names or one regular expression; neither: nothing.
struct NameRule {
  std::vector<std::string> names;
  Pattern pattern;

  bool empty() const { return names.empty() && pattern.empty(); }
  bool matches(const std::string& path, const std::string& where) const {
    if (!pattern.empty()) return pattern.matches(path, where);
    return std::any_of(names.begin(), names.end(), [&](const std::string& name) { return is_suffix_path(path, name); });
  }
};

struct Targets {
  std::vector<std::string> paths;  // what an adapter file holds: what the rules below choose must be among them, and is taken; without rules, all of it
  NameRule include;
  bool all_linear = false;
  NameRule exclude;
  std::vector<Index> layers;                 // empty: all
  std::vector<std::string> layers_patterns;  // names in front of the layer's number; empty: any

  static Targets named(std::vector<std::string> names) {
    Targets targets;
    targets.include.names = std::move(names);
    return targets;
  }
  static Targets at(std::vector<std::string> paths) {
    Targets targets;
    targets.paths = std::move(paths);
    return targets;
  }
  static Targets every_linear() {
    Targets targets;
    targets.all_linear = true;
    return targets;
  }

  // Nothing is chosen: a method's defaults count.
  bool empty() const { return paths.empty() && include.empty() && !all_linear; }

  // The number of the layer a path lies in.
  DELTATUNE_FUNCTION std::optional<Index> layer_of(const std::string& path) const {
    const auto number_at = [&](std::size_t begin) -> std::optional<Index> {
      std::size_t end = begin;
      while (end < path.size() && std::isdigit(static_cast<unsigned char>(path[end])) != 0) ++end;
      if (end == begin || end - begin > 9 || end == path.size() || path[end] != '.') return std::nullopt;
      return std::stoll(path.substr(begin, end - begin));
    };
    for (std::size_t dot = path.find('.'); dot != std::string::npos; dot = path.find('.', dot + 1)) {
      if (layers_patterns.empty()) {
        const auto number = dot > 0 ? number_at(dot + 1) : std::nullopt;
        if (number) return number;
      }
      for (const std::string& name : layers_patterns)
        if (is_suffix_path(path.substr(0, dot), name))
          if (const auto number = number_at(dot + 1)) return number;
    }
    return std::nullopt;
  }
};

// The sites, out of `paths`, that the rules choose; those in `reserved` (modules trained as a whole) are never chosen.
// Throws Error when nothing is chosen or when an entry of a list matches no path at all; `where` names the place the rules come from.
DELTATUNE_FUNCTION std::vector<std::string> choose_targets(const Targets& targets, const std::vector<std::string>& paths,
                                                           const std::vector<std::string>& reserved, const std::string& where) {
  const auto contains = [](const auto& list, const auto& item) { return std::find(list.begin(), list.end(), item) != list.end(); };
  const auto is_chosen = [&](const std::string& path) {
    if (contains(reserved, path) || (!targets.all_linear && !targets.include.matches(path, where + ": target_modules"))) return false;
    if (targets.exclude.matches(path, where + ": exclude_modules")) return false;
    const std::optional<Index> layer = targets.layer_of(path);
    return targets.layers.empty() || (layer && contains(targets.layers, *layer));
  };
  if (!targets.paths.empty()) {
    for (const std::string& path : targets.paths)
      if (!contains(paths, path))
        throw Error(where + ": " + path, "the model has no such layer",
                    {.expected = paths.empty() ? "" : "a layer such as " + paths.front(),
                     .remedy = "was the adapter trained on this architecture, with a head of the same kind?"});
    for (const std::string& path : paths)
      if (is_chosen(path) && !contains(targets.paths, path))
        throw Error(where + ": " + path, "is a target, but the file has no tensors for it", {.remedy = "is the file complete?"});
    if (!targets.all_linear && targets.include.empty()) return targets.paths;
    std::vector<std::string> taken;
    std::copy_if(targets.paths.begin(), targets.paths.end(), std::back_inserter(taken), is_chosen);
    if (taken.empty())
      throw Error(where + ": target_modules", "choose nothing that the file has tensors for", {.expected = "a layer such as " + targets.paths.front()});
    return taken;
  }
  std::string known;
  for (const std::string& path : paths)
    if (!targets.layer_of(path) || targets.layer_of(path) == Index{0}) known += (known.empty() ? "" : ", ") + path;
  const ErrorDetail remedy{.expected = "the path of a layer or its end, such as: " + known};
  const auto check_entries = [&](const NameRule& rule, const char* field) {
    for (const std::string& name : rule.names)
      if (std::none_of(paths.begin(), paths.end(), [&](const std::string& path) { return is_suffix_path(path, name); }))
        throw Error(where + ": " + field, "\"" + name + "\" matches nothing", remedy);
  };
  check_entries(targets.include, "target_modules");
  check_entries(targets.exclude, "exclude_modules");
  if (!targets.layers.empty() && (targets.all_linear || !targets.include.pattern.empty()))
    throw Error(where + ": layers_to_transform", "needs target_modules to be a list of names");

  std::vector<std::string> chosen;
  std::copy_if(paths.begin(), paths.end(), std::back_inserter(chosen), is_chosen);
  if (chosen.empty() && targets.layers.empty()) throw Error(where + ": target_modules", "match no layer of this model", remedy);
  for (const Index layer : targets.layers)
    if (std::none_of(chosen.begin(), chosen.end(), [&](const std::string& path) { return targets.layer_of(path) == layer; }))
      throw Error(where + ": layers_to_transform", "layer " + std::to_string(layer) + " holds none of the targets");
  return chosen;
}

// f(LinearSite<X>&), and on_table(LookupSite<X>&) where a method takes tables of embeddings too, for the sites that the targets choose, in the
// model's order. plan: what it saves as a whole is never chosen.
template <class Model, class Plan, class F, class OnTable = std::nullptr_t>
void for_each_target(Model& model, const Targets& targets, const Plan& plan, const std::string& where, const F& f, const OnTable& on_table = nullptr) {
  constexpr bool kTables = !std::is_same_v<OnTable, std::nullptr_t>;
  std::vector<std::string> paths, reserved;
  if constexpr (kTables)
    model.visit_lookups([&](auto& site) {
      paths.push_back(site.path);
      if (plan.saves(site.path) || targets.all_linear) reserved.push_back(site.path);
    });
  model.visit_sites([&](auto& site) {
    paths.push_back(site.path);
    const HeadSpec& head = model.architecture().head;
    const bool is_output = site.path == head.classifier || site.path == head.lm_head;  // which "all-linear" leaves out, saved or not
    if (plan.saves(site.path) || (targets.all_linear && is_output)) reserved.push_back(site.path);
  });
  const std::vector<std::string> chosen = choose_targets(targets, paths, reserved, where);
  const auto is_chosen = [&](const std::string& path) { return std::find(chosen.begin(), chosen.end(), path) != chosen.end(); };
  if constexpr (kTables)
    model.visit_lookups([&](auto& site) {
      if (is_chosen(site.path)) on_table(site);
    });
  model.visit_sites([&](auto& site) {
    if (is_chosen(site.path)) f(site);
  });
}

}  // namespace deltatune
