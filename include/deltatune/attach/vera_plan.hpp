// VeRA for a whole model. The settings of PEFT's VeraConfig; the folder always holds the shared factors (save_projection), which PEFT would draw
// with PyTorch's generator otherwise.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "deltatune/attach/default_targets.hpp"
#include "deltatune/attach/plan.hpp"
#include "deltatune/attach/plan_json.hpp"
#include "deltatune/delta/vera.hpp"
#include "deltatune/io/tensor_file.hpp"

namespace deltatune {

struct VeraPlan : PlanBase {
  static constexpr const char* kMethod = "vera";
  static constexpr const char* kPeftType = "VERA";
  static std::vector<std::string> site_tensors() { return {".vera_lambda_d", ".vera_lambda_b"}; }

  VeraConfig vera = {};
  Targets targets = {};       // empty: the family's
  Index projection_seed = 0;  // PEFT's projection_prng_key: written as it was read
  // Sizes of the factors in a file, which may be larger than the sites need.
  Index shared_in = 0, shared_out = 0;

  static std::vector<std::pair<std::string, VeraPlan>> methods() { return {{kMethod, {}}}; }
  DELTATUNE_FUNCTION std::vector<Setting> settings() {
    return {{"r", &vera.rank, "--rank", "rank"},
            {"vera_dropout", &vera.dropout, "--dropout", kDropoutHelp},
            {"d_initial", &vera.d_initial, "--d-initial", "start value of d"},
            {"projection_prng_key", &projection_seed},
            {"target_modules", &targets}};
  }
  void validate(const std::string& where) const { vera.validate(where); }
  template <class Json>
  void read_more(const Json& json) {
    if (!json.template get_or<bool>("save_projection", true))
      throw Error(json.name() + ": save_projection", "says that the random factors are not in the folder, and they can only be drawn again by PyTorch",
                  {.expected = "true", .got = "false", .remedy = "save the adapter in PEFT with save_projection=True"});
  }
  template <class Model>
  void write_more(nlohmann::json& config_io, const std::vector<std::string>& paths, Model& model) const {
    config_io.erase("exclude_modules");  // which PEFT's VeRA does not have
    if (!targets.exclude.empty()) config_io.update({{"target_modules", paths}, {"layers_to_transform", nullptr}, {"layers_pattern", nullptr}});
    if (bias == BiasTraining::targets) config_io["bias"] = "vera_only";
    config_io.update({{"save_projection", true}, {"fan_in_fan_out", detail::fan_in_fan_out(model, paths)}, {"init_weights", true}});
  }
  template <class X>
  std::vector<std::string> file_names(const Parameter<X>& parameter) const {
    if (parameter.path() == "vera_A" || parameter.path() == "vera_B") return {"base_model." + parameter.path()};
    return {};
  }
  void fit(const TensorFile& file) {
    if (const TensorInfo* const a = file.find("base_model.vera_A"); a != nullptr && a->shape.size() == 2) shared_in = a->shape[1];
    if (const TensorInfo* const b = file.find("base_model.vera_B"); b != nullptr && b->shape.size() == 2) shared_out = b->shape[0];
  }

  template <class Model, class X>
  void place(context_of<X>& ctx, Model& model, Attachment<X>& attachment, std::uint64_t seed, const std::string& where) const {
    vera.validate(where);
    const Targets chosen = targets_or_default(targets, kPeftType, model.architecture(), where);
    Index in = shared_in, out = shared_out;
    for_each_target(model, chosen, *this, where, [&](LinearSite<X>& site) {
      out = std::max(out, site.weight.shape()[0]);
      in = std::max(in, site.weight.shape()[1]);
    });
    const VeraProjection<X>& projection = attachment.add(model.derived(), VeraProjection<X>(ctx, vera.rank, in, out, derive(seed, 0), derive(seed, 1)));
    for_each_target(model, chosen, *this, where, [&](LinearSite<X>& site) {
      const Shape& shape = site.weight.shape();
      attachment.add(site, Vera<X>(ctx, site.path, shape[1], shape[0], vera, projection));
    });
  }
};

}  // namespace deltatune
