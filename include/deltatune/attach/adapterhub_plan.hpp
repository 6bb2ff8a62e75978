// The methods of AdapterHub's library `adapters`, in its own forms, one or several of them as one adapter (a union): where in a model each
// goes, with what settings. The presets are those of its configurations.
//
//   bottleneck      houlsby, pfeiffer, parallel, compacter, ...: delta/bottleneck.hpp
//   lora            plain, with gates, as (IA)3 and as DoRA: delta/lora.hpp, ia3.hpp, adapterhub_lora.hpp, adapterhub_ia3.hpp, adapterhub_dora.hpp
//   prefix_tuning   positions of tokens stay: delta/prefix.hpp
//   prompt_tuning   among the finished embeddings: delta/prompt.hpp
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "deltatune/attach/plan.hpp"
#include "deltatune/attach/targets.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/delta/adapterhub_dora.hpp"
#include "deltatune/delta/adapterhub_ia3.hpp"
#include "deltatune/delta/adapterhub_lora.hpp"
#include "deltatune/delta/bottleneck.hpp"
#include "deltatune/delta/ia3.hpp"
#include "deltatune/delta/prefix.hpp"
#include "deltatune/delta/prompt.hpp"
#include "deltatune/io/json_config.hpp"

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

struct AdapterHubBottleneck {
  BottleneckConfig adapter = {};  // its `bottleneck` comes from the reduction factor
  ReductionFactor reduction = {};
  bool after_attention = false;    // mh_adapter
  bool after_feed_forward = true;  // output_adapter
  std::vector<Index> leave_out = {};
};

struct AdapterHubLoraMember {
  enum class Kind { lora, dora, ia3 };
  Kind kind = Kind::lora;
  LoraConfig lora = {};  // rank and alpha are 1 for (IA)3
  bool gated = false;
  bool normal_start = false;
  std::string attention = "qv";  // which of q, k and v
  bool intermediate = false;     // the first layer of the feed-forward part
  bool output = false;           // the second
  std::vector<Index> leave_out = {};

  static AdapterHubLoraMember ia3() { return {.kind = Kind::ia3, .lora = {.rank = 1, .alpha = 1}, .attention = "kv", .intermediate = true}; }
};

struct AdapterHubPrefix {
  PrefixConfig prefix = {.rows = 30, .hidden = 512, .shifts_positions = false};
  std::vector<Index> leave_out = {};
};

struct AdapterHubPrompt {
  PromptConfig prompt = {.rows = 10, .like_words = false};
  PromptStart start = {.kind = PromptStart::Kind::uniform};
  std::string text = {};  // what start.tokens are
};

using AdapterHubMember = std::variant<AdapterHubBottleneck, AdapterHubLoraMember, AdapterHubPrefix, AdapterHubPrompt>;

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

inline bool holds(const std::vector<Index>& layers, Index layer) { return std::find(layers.begin(), layers.end(), layer) != layers.end(); }

}  // namespace detail

struct AdapterHubPlan : PlanBase {
  std::vector<AdapterHubMember> members = {};
  std::string name_in_file = "adapter";  // part of the tensors' names

  AdapterHubPlan() = default;
  AdapterHubPlan(std::vector<AdapterHubMember> of) : members(std::move(of)) {}

  // "houlsby", "unipelt", ...
  std::string method() const;
  // From a folder's adapter_config.json: attach/adapterhub_json.hpp.
  static AdapterHubPlan read(const JsonConfig& json);

  // Throws Error for settings that make no sense; `where` stands for the plan.
  template <class Model>
  void place(typename Model::Context& ctx, Model& model, Attachment<typename Model::Tensor>& attachment, std::uint64_t seed, const std::string& where) const {
    if (members.empty()) throw Error(where, "holds no method");
    if (needs_derived() > 1)
      throw Error(where, "cannot hold several prefixes, or prefixes and PHM layers that share parameters", {.remedy = "attach them as adapters of their own"});
    for (std::size_t i = 0; i < members.size(); ++i) {
      const std::string member = members.size() == 1 ? where : where + ": member " + std::to_string(i);
      std::visit([&](const auto& method) { place(ctx, model, attachment, method, derive(seed, i), member); }, members[i]);
    }
  }

 private:
  DELTATUNE_FUNCTION std::size_t needs_derived() const {
    std::size_t count = 0;
    for (const AdapterHubMember& member : members) {
      const AdapterHubBottleneck* const bottleneck = std::get_if<AdapterHubBottleneck>(&member);
      const bool shares = bottleneck != nullptr && bottleneck->adapter.phm && (bottleneck->adapter.phm->shared_rule || bottleneck->adapter.phm->shared_weight);
      if (shares || std::holds_alternative<AdapterHubPrefix>(member)) ++count;
    }
    return count;
  }
  template <class Model>
  static void check_layers(const Model& model, const std::vector<Index>& layers, const std::string& where) {
    for (const Index layer : layers)
      if (layer < 0 || layer >= model.layers())
        throw Error(where + ": leave_out", "the model has no such layer",
                    {.expected = "0 to " + std::to_string(model.layers() - 1), .got = std::to_string(layer)});
  }

  template <class Model, class X>
  static void place(context_of<X>& ctx, Model& model, Attachment<X>& attachment, const AdapterHubBottleneck& method, RandomKey key, const std::string& where) {
    if (!model.architecture().adapterhub_bottlenecks)
      throw Error(where, "bottlenecks do not exist for " + model.architecture().title + " in AdapterHub", {.remedy = "use LoRA or another of PEFT's methods"});
    check_layers(model, method.leave_out, where);
    method.reduction.validate(where);
    const Index width = model.architecture().hidden_size;
    BottleneckConfig config = method.adapter;
    SharedPhm<X> shared;
    if (config.phm && (config.phm->shared_rule || config.phm->shared_weight)) {
      if (config.phm->shared_weight && !method.reduction.by_layer.empty()) throw Error(where + ": shared_W_phm", "needs one reduction_factor for all layers");
      config.bottleneck = method.reduction.bottleneck(width, 0);
      config.validate(where, width);
      shared = attachment.add(model.derived(), detail::PhmShare<X>(ctx, width, config.bottleneck, *config.phm, derive(key, 0))).shared();
    }
    bool any = false;
    std::uint64_t stream = 1;
    model.visit_sublayers([&](SublayerSite<X>& site) {
      const bool wanted = site.sublayer == Sublayer::attention ? method.after_attention : method.after_feed_forward;
      if (!wanted || detail::holds(method.leave_out, site.layer)) return;
      method.reduction.check_layer(site.layer, where);
      config.bottleneck = method.reduction.bottleneck(width, site.layer);
      config.validate(where, width);
      attachment.add(site, Bottleneck<X>(ctx, site.adapters, width, config, derive(key, stream++), shared));
      any = true;
    });
    if (!any) throw Error(where, "matches no layer", {.expected = "mh_adapter or output_adapter, and layers that leave_out does not hold"});
  }

  template <class Model, class X>
  static void place(context_of<X>& ctx, Model& model, Attachment<X>& attachment, const AdapterHubLoraMember& method, RandomKey key, const std::string& where) {
    using Kind = AdapterHubLoraMember::Kind;
    check_layers(model, method.leave_out, where);
    method.lora.validate(where);
    if (method.gated && method.kind != Kind::lora)
      throw Error(where + ": use_gating", "is for plain LoRA here", {.remedy = "leave out use_dora and the composition mode \"scale\""});
    const Architecture& architecture = model.architecture();
    const StackNames& names = architecture.stack.names;
    const std::vector<std::string>& projections = names.attention.projections;
    const bool merged = projections.size() == 1;  // one layer for query, key and value
    if (method.kind == Kind::dora && merged)
      throw Error(where + ": use_dora", "does not exist for " + architecture.title + " in AdapterHub", {.remedy = "use PEFT's DoRA"});
    bool any = false;
    std::uint64_t stream = 0;
    model.visit_sites([&](LinearSite<X>& site) {
      const std::optional<Index> layer = Targets{}.layer_of(site.path);
      if (!layer || detail::holds(method.leave_out, *layer)) return;
      OutputParts parts{1, {}};
      const std::string in_layer = architecture.layer_path(*layer);
      const auto is = [&](const std::string& name) { return is_suffix_path(site.path, in_layer + name); };
      const auto attention = [&](Index j) {
        return is(projections[merged ? 0 : static_cast<std::size_t>(j)]) && method.attention.find("qkv"[j]) != std::string::npos;
      };
      if (merged) parts.count = 3;
      for (Index j = 0; j < 3; ++j)
        if (attention(j)) parts.chosen.push_back(merged ? j : 0);
      if ((method.intermediate && is(names.feed_forward.up[0])) || (method.output && is(names.feed_forward.down))) parts = {};
      if (parts.chosen.empty()) return;
      any = true;
      add(ctx, attachment, site, method, parts, derive(key, stream++));
    });
    if (!any) throw Error(where, "matches no layer", {.expected = "attn_matrices, intermediate_lora or output_lora, and layers that leave_out does not hold"});
  }
  template <class X>
  static void add(context_of<X>& ctx, Attachment<X>& attachment, LinearSite<X>& site, const AdapterHubLoraMember& method, const OutputParts& parts,
                  RandomKey key) {
    using Kind = AdapterHubLoraMember::Kind;
    const Index in = site.weight.shape().at(1), out = site.weight.shape().at(0);
    if (method.kind == Kind::ia3) {
      if (parts.count == 1) {
        attachment.add(site, Ia3<X>(ctx, site.path, in, out, false));
      } else {
        attachment.add(site, AdapterHubIa3<X>(ctx, site.path, out, parts));
      }
    } else if (method.kind == Kind::dora) {
      attachment.add(site, AdapterHubDora<X>(ctx, site.path, site.weight, method.lora, key));
    } else if (method.gated || parts.count > 1 || method.normal_start) {
      if (method.gated) attachment.refuse_merge("has gates, which depend on its input");
      attachment.add(site, AdapterHubLora<X>(ctx, site.path, in, out, {method.lora, method.gated, method.normal_start, parts}, key));
    } else {
      attachment.add(site, Lora<X>(ctx, site.path, in, out, method.lora, key));
    }
  }

  template <class Model, class X>
  static void place(context_of<X>& ctx, Model& model, Attachment<X>& attachment, const AdapterHubPrefix& method, RandomKey key, const std::string& where) {
    check_layers(model, method.leave_out, where);
    method.prefix.validate(where);
    std::vector<Parameter<X>*> rows;
    Index layer = 0;
    model.visit_attentions([&](KvSite<X>& site) {
      const std::uint64_t stream = static_cast<std::uint64_t>(layer);
      if (detail::holds(method.leave_out, layer++)) return;
      rows.push_back(&attachment.add(site, PrefixRows<X>(ctx, site.path, site.input_width, site.width, method.prefix, derive(key, 0, stream))).kv());
    });
    if (rows.empty()) throw Error(where + ": leave_out", "leaves out every layer");
    Prefix<X>& prefix = attachment.add(model.derived(), Prefix<X>(ctx, rows, model.architecture().hidden_size, method.prefix, derive(key, 1)));
    prefix.prompt_embeddings().set_file_shape({prefix.prompt_embeddings().size()});
  }

  template <class Model, class X>
  static void place(context_of<X>& ctx, Model& model, Attachment<X>& attachment, const AdapterHubPrompt& method, RandomKey key, const std::string& where) {
    method.prompt.validate(where);
    method.start.validate(where, method.prompt);
    if (!model.architecture().adapterhub_prompts)
      throw Error(where + ": prompt_tuning", "does not exist for " + model.architecture().title + " in AdapterHub", {.remedy = "use PEFT's prompt tuning"});
    InputSite<X>& site = model.input();
    attachment.add(site, Prompt<X>(ctx, site.width, method.prompt, prompt_start<X>(ctx, method.start, method.prompt, model.word_table().value(), key)));
  }
};

DELTATUNE_FUNCTION std::string AdapterHubPlan::method() const {
  const auto of_member = [](const AdapterHubMember& member) -> std::string {
    if (const auto* bottleneck = std::get_if<AdapterHubBottleneck>(&member)) {
      if (bottleneck->adapter.phm) return "compacter";
      if (bottleneck->adapter.parallel) return "parallel";
      if (bottleneck->after_attention && bottleneck->after_feed_forward && !bottleneck->adapter.original_ln_before) return "houlsby";
      return !bottleneck->after_attention && bottleneck->adapter.original_ln_before && bottleneck->adapter.original_ln_after ? "pfeiffer" : "bottleneck";
    }
    if (const auto* lora = std::get_if<AdapterHubLoraMember>(&member))
      return lora->kind == AdapterHubLoraMember::Kind::ia3 ? "ia3" : lora->kind == AdapterHubLoraMember::Kind::dora ? "dora" : "lora";
    if (const auto* prefix = std::get_if<AdapterHubPrefix>(&member)) return prefix->prefix.hidden > 0 ? "prefix_mlp" : "prefix";
    return "prompt";
  };
  if (members.size() == 1) return of_member(members.front());
  std::set<std::string> all;
  for (const AdapterHubMember& member : members) all.insert(of_member(member));
  if (all == std::set<std::string>{"parallel", "prefix_mlp"}) return "mam";
  if (all == std::set<std::string>{"pfeiffer", "prefix_mlp", "lora"}) return "unipelt";
  return "union";
}

// AdapterHub's configurations by their names there, old and new, and by those of the papers. Throws Error for another name.
DELTATUNE_FUNCTION AdapterHubPlan adapterhub_preset(const std::string& name) {
  using C = BottleneckConfig;
  using ops::Activation;
  AdapterHubBottleneck houlsby{.adapter = {.activation = Activation::silu}, .after_attention = true};
  AdapterHubBottleneck pfeiffer{.adapter = {.activation = Activation::relu, .original_ln_before = true}};
  AdapterHubBottleneck parallel{.adapter = {.activation = Activation::relu, .parallel = true, .scale = 4, .start = C::Start::mam_adapter}, .reduction = {2}};
  const auto with_phm = [](AdapterHubBottleneck adapter) {
    adapter.adapter.activation = Activation::gelu;
    adapter.adapter.phm = PhmConfig{};
    adapter.reduction.factor = 32;
    return adapter;
  };
  if (name == "houlsby" || name == "double_seq_bn") return AdapterHubPlan({houlsby});
  if (name == "pfeiffer" || name == "seq_bn") return AdapterHubPlan({pfeiffer});
  if (name == "parallel" || name == "par_bn") return AdapterHubPlan({parallel});
  if (name == "scaled_parallel" || name == "scaled_par_bn") {
    parallel.adapter.scaling = C::Scaling::learned;
    return AdapterHubPlan({parallel});
  }
  if (name == "compacter") return AdapterHubPlan({with_phm(houlsby)});
  if (name == "compacter++") return AdapterHubPlan({with_phm(pfeiffer)});
  if (name == "adapter_plus")
    return AdapterHubPlan({AdapterHubBottleneck{.adapter = {.activation = Activation::gelu,
                                                            .original_ln_before = true,
                                                            .original_ln_after = false,
                                                            .residual = C::Residual::after_ln,
                                                            .scaling = C::Scaling::channel,
                                                            .stochastic_depth = 0.1,
                                                            .start = C::Start::houlsby},
                                                .reduction = {96}}});
  if (name == "lora") return AdapterHubPlan({AdapterHubLoraMember{}});
  if (name == "dora") return AdapterHubPlan({AdapterHubLoraMember{.kind = AdapterHubLoraMember::Kind::dora}});
  if (name == "ia3") return AdapterHubPlan({AdapterHubLoraMember::ia3()});
  AdapterHubPrefix prefix;
  if (name == "prefix_tuning") return AdapterHubPlan({prefix});
  if (name == "prefix_tuning_flat") {
    prefix.prefix.hidden = 0;
    return AdapterHubPlan({prefix});
  }
  if (name == "prompt_tuning") return AdapterHubPlan({AdapterHubPrompt{}});
  if (name == "mam") {
    prefix.prefix.hidden = 800;
    return AdapterHubPlan({prefix, parallel});
  }
  if (name == "unipelt") {
    prefix.prefix.rows = 10;
    prefix.prefix.gates = PrefixConfig::Gates::shared;
    pfeiffer.adapter.gated = true;
    return AdapterHubPlan({prefix, pfeiffer, AdapterHubLoraMember{.lora = {.rank = 8, .alpha = 2}, .gated = true}});
  }
  throw Error(name, "is not a known configuration of AdapterHub",
              {.expected = "houlsby, pfeiffer, parallel, scaled_parallel, compacter, compacter++, adapter_plus, lora, dora, ia3, "
                           "prefix_tuning, prefix_tuning_flat, "
                           "prompt_tuning, mam or unipelt"});
}

}  // namespace deltatune
