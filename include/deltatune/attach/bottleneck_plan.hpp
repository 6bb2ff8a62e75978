// Bottleneck adapters for a whole model: Houlsby's, Pfeiffer's, parallel ones, Compacter and Adapter+ (delta/bottleneck.hpp). The settings of AdapterHub's
// BnConfig, in whose folders they are kept (attach/adapterhub_format.hpp).
//
// In an encoder-decoder both stacks have them, after attention and feed-forward part as in any model, and after cross-attention only where
// after_cross_attention says so, which no configuration of the papers does. Layers are counted over both stacks, the encoder's first.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/attach/plan.hpp"
#include "deltatune/attach/setting.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/delta/bottleneck.hpp"

namespace deltatune {

// The model's width by the bottleneck's.
struct ReductionFactor {
  double factor = 16;                     // 0: only layers of by_layer have one
  std::map<Index, double> by_layer = {};  // others than that

  double at(Index layer) const {
    const auto other = by_layer.find(layer);
    return other == by_layer.end() ? factor : other->second;
  }
  Index bottleneck(Index width, Index layer) const { return std::max<Index>(1, static_cast<Index>(std::floor(static_cast<double>(width) / at(layer)))); }
  DELTATUNE_FUNCTION void validate(const std::string& where) const {
    const auto check = [&](double value) {
      if (!(value > 0 && std::isfinite(value)))
        throw Error(where + ": reduction_factor", "is not a reduction factor", {.expected = "a positive number", .got = std::to_string(value)});
    };
    if (factor != 0 || by_layer.empty()) check(factor);
    for (const auto& [layer, other] : by_layer) check(other);
  }
  // Throws Error where a layer that gets an adapter has no factor.
  DELTATUNE_FUNCTION void check_layer(Index layer, const std::string& where) const {
    if (at(layer) == 0)
      throw Error(where + ": reduction_factor", "has no factor for layer " + std::to_string(layer),
                  {.expected = "one for each layer, or a \"default\"", .remedy = "name the layer in leave_out if it has no adapter"});
  }
};

namespace detail {

// What the PHM layers of an adapter share. Paths: shared_parameters.phm_rule, .W_down_left, ...
template <class X>
class PhmShare {
 public:
  PhmShare(context_of<X>& ctx, Index width, Index bottleneck, const PhmConfig& config, RandomKey key) {
    const std::string path = "shared_parameters.";
    if (config.shared_rule) {
      owner_.add_rule(ctx, path + "phm_rule", config, derive(key, 0), shared_.down);
      shared_.up = shared_.down;
    }
    if (!config.shared_weight) return;
    owner_.add_weight(ctx, path + "W_down", width, bottleneck, config, derive(key, 1), shared_.down);
    owner_.add_weight(ctx, path + "W_up", bottleneck, width, config, derive(key, 2), shared_.up);
  }

  template <class F>
  void visit(const F& f) {
    owner_.visit(f);
  }
  const SharedPhm<X>& shared() const { return shared_; }

 private:
  PhmOwner<X> owner_;
  SharedPhm<X> shared_;
};

inline constexpr const char* kLeaveOutHelp = "layers without an adapter (AdapterDrop)";

// AdapterHub's names; the first of several for one function is the one that is written.
DELTATUNE_FUNCTION Choice activation_choice(ops::Activation& activation) {
  using ops::Activation;
  return {activation,
          {{"relu", Activation::relu},
           {"gelu", Activation::gelu},
           {"gelu_python", Activation::gelu},
           {"gelu_new", Activation::gelu_new},
           {"gelu_fast", Activation::gelu_new},
           {"gelu_pytorch_tanh", Activation::gelu_new},
           {"quick_gelu", Activation::quick_gelu},
           {"swish", Activation::silu},
           {"silu", Activation::silu},
           {"tanh", Activation::tanh},
           {"leakyrelu", Activation::leaky_relu},
           {"leaky_relu", Activation::leaky_relu},
           {"sigmoid", Activation::sigmoid}}};
}

DELTATUNE_FUNCTION std::vector<Setting> phm_settings(PhmConfig& phm) {
  return {{"phm_dim", &phm.dim},
          {"phm_rank", &phm.rank},
          {"factorized_phm_W", &phm.factorised_weight},
          {"shared_W_phm", &phm.shared_weight},
          {"factorized_phm_rule", &phm.factorised_rule},
          {"shared_phm_rule", &phm.shared_rule},
          {"learn_phm", &phm.learn_rule},
          {"phm_bias", &phm.bias},
          {"phm_c_init", Choice(phm.uniform_rule, {{"normal", false}, {"uniform", true}})},
          {"phm_init_range", &phm.rule_deviation}};
}

}  // namespace detail

struct BottleneckPlan : PlanBase {
  static constexpr const char* kGroup = "Adapters";

  BottleneckConfig adapter = {};  // its `bottleneck` comes from the reduction factor
  ReductionFactor reduction = {};
  bool after_attention = false;        // mh_adapter
  bool after_feed_forward = true;      // output_adapter
  bool after_cross_attention = false;  // cross_adapter
  std::vector<Index> leave_out = {};
  std::string name_in_file = "adapter";  // part of the tensors' names

  // The configurations of the papers.
  DELTATUNE_FUNCTION static std::vector<std::pair<std::string, BottleneckPlan>> methods() {
    using C = BottleneckConfig;
    using ops::Activation;
    BottleneckPlan houlsby, pfeiffer, parallel, compacter, compacter_plus, adapter_plus;
    houlsby.adapter.activation = Activation::silu;
    houlsby.after_attention = true;
    pfeiffer.adapter.original_ln_before = true;
    parallel.adapter.parallel = true;
    parallel.adapter.scale = 4;
    parallel.adapter.start = C::Start::mam_adapter;
    parallel.reduction.factor = 2;
    BottleneckPlan scaled = parallel;
    scaled.adapter.scaling = C::Scaling::learned;
    compacter = houlsby;
    compacter_plus = pfeiffer;
    for (BottleneckPlan* const plan : {&compacter, &compacter_plus}) {
      plan->adapter.activation = Activation::gelu;
      plan->adapter.phm = PhmConfig{};
      plan->reduction.factor = 32;
    }
    adapter_plus.adapter = {.activation = Activation::gelu,
                            .original_ln_before = true,
                            .original_ln_after = false,
                            .residual = C::Residual::after_ln,
                            .scaling = C::Scaling::channel,
                            .stochastic_depth = 0.1,
                            .start = C::Start::houlsby};
    adapter_plus.reduction.factor = 96;
    return {{"houlsby", houlsby},     {"pfeiffer", pfeiffer},          {"parallel", parallel},        {"scaled_parallel", scaled},
            {"compacter", compacter}, {"compacter++", compacter_plus}, {"adapter_plus", adapter_plus}};
  }
  // One of them, or another name that AdapterHub has for it. Throws Error for a name that is none of these.
  DELTATUNE_FUNCTION static BottleneckPlan of(const std::string& name) {
    static const std::map<std::string, std::string> kOther{
        {"double_seq_bn", "houlsby"}, {"seq_bn", "pfeiffer"}, {"par_bn", "parallel"}, {"scaled_par_bn", "scaled_parallel"}};
    const auto other = kOther.find(name);
    std::string known;
    for (auto& [own_name, plan] : methods()) {
      if (own_name == (other == kOther.end() ? name : other->second)) return plan;
      known += (known.empty() ? "" : ", ") + own_name;
    }
    throw Error(name, "is not a known configuration of bottleneck adapters", {.expected = known});
  }
  // "houlsby", ...; "bottleneck" where it is none of them.
  DELTATUNE_FUNCTION std::string method() const {
    if (adapter.phm) return "compacter";
    if (adapter.parallel) return "parallel";
    if (after_attention && after_feed_forward && !adapter.original_ln_before) return "houlsby";
    return !after_attention && adapter.original_ln_before && adapter.original_ln_after ? "pfeiffer" : "bottleneck";
  }

  DELTATUNE_FUNCTION std::vector<Setting> settings() {
    using Start = BottleneckConfig::Start;
    std::vector<Setting> all{
        {"mh_adapter", &after_attention},
        {"output_adapter", &after_feed_forward},
        {"cross_adapter", &after_cross_attention, "--cross-adapter", "adapters after cross-attention, too"},
        {"", &reduction.factor, "--reduction-factor", "width of the model over that of the adapter"},
        {"leave_out", &leave_out, "--leave-out", detail::kLeaveOutHelp},
        {"", detail::activation_choice(adapter.activation), "--non-linearity",
         "activation inside the adapter: relu, gelu, gelu_new, quick_gelu, swish, tanh, leakyrelu or sigmoid"},
        {"is_parallel", &adapter.parallel},
        {"original_ln_before", &adapter.original_ln_before},
        {"original_ln_after", &adapter.original_ln_after},
        {"ln_before", &adapter.ln_before},
        {"ln_after", &adapter.ln_after},
        {"adapter_residual_before_ln", &adapter.residual_before_ln_after},
        {"", &adapter.scale, "--scaling", "factor on the adapter's output"},
        {"use_gating", &adapter.gated},
        {"dropout", &adapter.dropout, "--dropout", kDropoutHelp},
        {"stochastic_depth", &adapter.stochastic_depth},
        {"init_weights", Choice(adapter.start, {{"bert", Start::bert}, {"mam_adapter", Start::mam_adapter}, {"houlsby", Start::houlsby}})}};
    if (!adapter.phm) return all;
    for (const Setting& setting : detail::phm_settings(*adapter.phm)) all.push_back(setting);
    return all;
  }

  static RandomKey stream_of(std::uint64_t seed) { return derive(seed, 0); }

  // The switch of one kind of sublayer.
  DELTATUNE_FUNCTION static bool BottleneckPlan::*after(Sublayer sublayer) {
    switch (sublayer) {
      case Sublayer::attention:
        return &BottleneckPlan::after_attention;
      case Sublayer::cross_attention:
        return &BottleneckPlan::after_cross_attention;
      case Sublayer::feed_forward:
        break;
    }
    return &BottleneckPlan::after_feed_forward;
  }
  bool stands_after(Sublayer sublayer) const { return this->*after(sublayer); }
  // Whether the deltas share parameters.
  bool shares() const { return adapter.phm && (adapter.phm->shared_rule || adapter.phm->shared_weight); }

  // Throws Error for settings that make no sense; `where` stands for the plan.
  template <class Model, class X>
  void place(context_of<X>& ctx, Model& model, Attachment<X>& attachment, RandomKey key, const std::string& where) const {
    if (!model.architecture().adapterhub_bottlenecks)
      throw Error(where, "bottlenecks do not exist for " + model.architecture().title + " in AdapterHub", {.remedy = "use LoRA or another of PEFT's methods"});
    if (after_cross_attention && !model.architecture().encoder)
      throw Error(where + ": cross_adapter", model.architecture().title + " has no cross-attention", {.remedy = "leave it out"});
    detail::check_left_out(model, leave_out, where);
    reduction.validate(where);
    const Index width = model.architecture().hidden_size;
    BottleneckConfig config = adapter;
    SharedPhm<X> shared;
    if (shares()) {
      if (config.phm->shared_weight && !reduction.by_layer.empty()) throw Error(where + ": shared_W_phm", "needs one reduction_factor for all layers");
      config.bottleneck = reduction.bottleneck(width, 0);
      config.validate(where, width);
      shared = attachment.add(model.derived(), detail::PhmShare<X>(ctx, width, config.bottleneck, *config.phm, derive(key, 0))).shared();
    }
    bool any = false;
    std::uint64_t stream = 1;
    model.visit_sublayers([&](SublayerSite<X>& site) {
      if (!stands_after(site.sublayer) || detail::holds(leave_out, site.layer)) return;
      reduction.check_layer(site.layer, where);
      config.bottleneck = reduction.bottleneck(width, site.layer);
      config.validate(where, width);
      attachment.add(site, Bottleneck<X>(ctx, site.adapters, width, config, derive(key, stream++), shared));
      any = true;
    });
    if (!any) throw Error(where, "matches no layer", {.expected = "mh_adapter, output_adapter or cross_adapter, and layers that leave_out does not hold"});
  }
};

}  // namespace deltatune
