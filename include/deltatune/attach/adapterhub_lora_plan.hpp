// AdapterHub's LoRA, plain or with gates, DoRA and (IA)3, for a whole model: which of query, key and value, and which layers of the feed-forward part.
// The settings of its LoRAConfig. (delta/adapterhub_lora.hpp, adapterhub_dora.hpp, adapterhub_ia3.hpp say in what they differ from PEFT's.)
// In an encoder-decoder that is query, key and value of all attentions, cross-attention among them. Layers are counted over both stacks, the encoder's first.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/attach/bottleneck_plan.hpp"
#include "deltatune/attach/plan.hpp"
#include "deltatune/attach/setting.hpp"
#include "deltatune/attach/targets.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/delta/adapterhub_dora.hpp"
#include "deltatune/delta/adapterhub_ia3.hpp"
#include "deltatune/delta/adapterhub_lora.hpp"

namespace deltatune {

struct AdapterHubLoraPlan : PlanBase {
  static constexpr const char* kGroup = "Methods on weights";
  enum class Kind { lora, dora, ia3 };

  Kind kind = Kind::lora;
  LoraConfig lora = {};  // rank and alpha are 1 for (IA)3
  bool gated = false;
  bool normal_start = false;
  std::string attention = "qv";  // which of q, k and v
  bool intermediate = false;     // the first layer of the feed-forward part
  bool output = false;           // the second
  std::vector<Index> leave_out = {};
  std::string name_in_file = "adapter";  // part of the tensors' names

  DELTATUNE_FUNCTION static AdapterHubLoraPlan ia3() {
    AdapterHubLoraPlan plan;
    plan.kind = Kind::ia3;
    plan.lora = {.rank = 1, .alpha = 1};
    plan.attention = "kv";
    plan.intermediate = true;
    return plan;
  }

  std::string method() const { return kind == Kind::ia3 ? "ia3" : kind == Kind::dora ? "dora" : "lora"; }

  // A program offers them in a union; PEFT's forms stand for the others there.
  static std::vector<std::pair<std::string, AdapterHubLoraPlan>> methods() { return {}; }
  DELTATUNE_FUNCTION std::vector<Setting> settings() {
    return {{"r", &lora.rank, "--rank", "rank"},
            {"alpha", &lora.alpha, "--alpha", "scaling is alpha / rank"},
            {"dropout", &lora.dropout, "--dropout", kDropoutHelp},
            {"use_gating", &gated},
            {"intermediate_lora", &intermediate},
            {"output_lora", &output},
            {"leave_out", &leave_out, "--leave-out", detail::kLeaveOutHelp}};
  }

  static RandomKey stream_of(std::uint64_t seed) { return derive(seed, 0); }

  // Throws Error for settings that make no sense; `where` stands for the plan.
  template <class Model, class X>
  void place(context_of<X>& ctx, Model& model, Attachment<X>& attachment, RandomKey key, const std::string& where) const {
    detail::check_left_out(model, leave_out, where);
    lora.validate(where);
    if (gated && kind != Kind::lora)
      throw Error(where + ": use_gating", "is for plain LoRA here", {.remedy = "leave out use_dora and the composition mode \"scale\""});
    const Architecture& architecture = model.architecture();
    if (kind == Kind::dora && architecture.stack.names.attention.projections.size() == 1)
      throw Error(where + ": use_dora", "does not exist for " + architecture.title + " in AdapterHub", {.remedy = "use PEFT's DoRA"});
    bool any = false;
    std::uint64_t stream = 0;
    model.visit_sites([&](LinearSite<X>& site) {
      const std::optional<LayerPlace> place = architecture.place_of(architecture.without_prefix(site.path));
      if (!place || detail::holds(leave_out, place->layer)) return;
      const OutputParts parts = parts_of(place->stack->names, place->module);
      if (parts.chosen.empty()) return;
      any = true;
      add(ctx, attachment, site, parts, derive(key, stream++));
    });
    if (!any) throw Error(where, "matches no layer", {.expected = "attn_matrices, intermediate_lora or output_lora, and layers that leave_out does not hold"});
  }

 private:
  // Which parts of a module's output get a delta; none of other modules.
  DELTATUNE_FUNCTION OutputParts parts_of(const StackNames& names, const std::string& module) const {
    if ((intermediate && module == names.feed_forward.intermediate_lora()) || (output && module == names.feed_forward.output_lora())) return {};
    OutputParts parts{1, {}};
    for (const std::vector<std::string>* const projections : {&names.attention.projections, &names.cross.projections}) {
      const bool merged = projections->size() == 1;  // one layer for query, key and value
      for (std::size_t j = 0; j < 3 && !projections->empty(); ++j) {
        if (module != (*projections)[merged ? 0 : j]) continue;
        if (merged) parts.count = 3;
        if (attention.find("qkv"[j]) != std::string::npos) parts.chosen.push_back(merged ? static_cast<Index>(j) : 0);
      }
    }
    return parts;
  }
  template <class X>
  void add(context_of<X>& ctx, Attachment<X>& attachment, LinearSite<X>& site, const OutputParts& parts, RandomKey key) const {
    const Index in = site.weight.shape().at(1), out = site.weight.shape().at(0);
    if (kind == Kind::ia3) {
      attachment.add(site, AdapterHubIa3<X>(ctx, site.path, out, parts));
    } else if (kind == Kind::dora) {
      attachment.add(site, AdapterHubDora<X>(ctx, site.path, site.weight, lora, key));
    } else if (gated || parts.count > 1 || normal_start) {
      if (gated) attachment.refuse_merge("has gates, which depend on its input");
      attachment.add(site, AdapterHubLora<X>(ctx, site.path, in, out, {lora, gated, normal_start, parts}, key));
    } else {
      attachment.add(site, Lora<X>(ctx, site.path, in, out, lora, key));
    }
  }
};

}  // namespace deltatune
