// Several methods as one adapter: MAM, UniPELT and other unions of AdapterHub, in whose folders they are kept; a single one where its folder is to be
// AdapterHub's and not PEFT's.
#pragma once

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "deltatune/attach/adapterhub_lora_plan.hpp"
#include "deltatune/attach/bottleneck_plan.hpp"
#include "deltatune/attach/prefix_plan.hpp"
#include "deltatune/attach/prompt_plan.hpp"
#include "deltatune/core/config.hpp"

namespace deltatune {

// What the members say of modules_to_save and biases does not count: the union says that.
using UnionMember = std::variant<BottleneckPlan, AdapterHubLoraPlan, PrefixPlan, PromptPlan>;

struct UnionPlan : PlanBase {
  static constexpr const char* kGroup = "Adapters";

  std::vector<UnionMember> members = {};
  std::string name_in_file = "adapter";  // part of the tensors' names

  UnionPlan() = default;
  UnionPlan(std::vector<UnionMember> of) : members(std::move(of)) {}
  // A single one, with what it says of modules_to_save and biases.
  template <class Plan>
  static UnionPlan of(const Plan& one) {
    UnionPlan plan;
    static_cast<PlanBase&>(plan) = one;
    plan.members = {one};
    if constexpr (requires { one.name_in_file; }) plan.name_in_file = one.name_in_file;
    return plan;
  }

  // The prefix as AdapterHub has it: positions of tokens stay, and a bias by distance takes tokens to be behind where they are.
  DELTATUNE_FUNCTION static PrefixPlan adapterhub_prefix(Index rows = 30, Index hidden = 512) {
    PrefixPlan plan;
    plan.prefix = {.rows = rows, .hidden = hidden, .shifts_positions = false, .distances = RowDistances::shifted};
    return plan;
  }
  // The prompt as AdapterHub has it: among the finished embeddings.
  DELTATUNE_FUNCTION static PromptPlan adapterhub_prompt() {
    PromptPlan plan;
    plan.prompt = {.rows = 10, .like_words = false};
    plan.start.kind = PromptStart::Kind::uniform;
    return plan;
  }

  DELTATUNE_FUNCTION static std::vector<std::pair<std::string, UnionPlan>> methods() {
    PrefixPlan gated_prefix = adapterhub_prefix(10);
    gated_prefix.prefix.gates = PrefixConfig::Gates::shared;
    BottleneckPlan pfeiffer = BottleneckPlan::of("pfeiffer");
    pfeiffer.adapter.gated = true;
    AdapterHubLoraPlan lora;
    lora.lora = {.rank = 8, .alpha = 2};
    lora.gated = true;
    return {{"mam", UnionPlan({adapterhub_prefix(30, 800), BottleneckPlan::of("parallel")})}, {"unipelt", UnionPlan({gated_prefix, pfeiffer, lora})}};
  }
  // "mam", "unipelt", that of a single member, or "union".
  DELTATUNE_FUNCTION std::string method() const {
    std::set<std::string> all;
    for (const UnionMember& member : members)
      all.insert(std::visit(
          []<class P>(const P& plan) -> std::string {
            if constexpr (std::is_same_v<P, PrefixPlan>) {
              return plan.prefix.hidden > 0 ? "prefix_mlp" : "prefix";
            } else if constexpr (std::is_same_v<P, PromptPlan>) {
              return P::kMethod;
            } else {
              return plan.method();
            }
          },
          member));
    if (members.size() == 1) return *all.begin();
    if (all == std::set<std::string>{"parallel", "prefix_mlp"}) return "mam";
    if (all == std::set<std::string>{"pfeiffer", "prefix_mlp", "lora"}) return "unipelt";
    return "union";
  }

  // Those of all members.
  DELTATUNE_FUNCTION std::vector<Setting> settings() {
    std::vector<Setting> all;
    for (UnionMember& member : members) {
      const std::vector<Setting> settings = std::visit([](auto& plan) { return plan.settings(); }, member);
      all.insert(all.end(), settings.begin(), settings.end());
      if (PrefixPlan* const prefix = std::get_if<PrefixPlan>(&member)) all.push_back({"", &prefix->leave_out, "--leave-out", detail::kLeaveOutHelp});
    }
    return all;
  }

  // Throws Error for settings that make no sense; `where` stands for the plan.
  template <class Model, class X>
  void place(context_of<X>& ctx, Model& model, Attachment<X>& attachment, std::uint64_t seed, const std::string& where) const {
    if (members.empty()) throw Error(where, "holds no method");
    const auto shares = [](const UnionMember& member) {
      const BottleneckPlan* const bottleneck = std::get_if<BottleneckPlan>(&member);
      return std::holds_alternative<PrefixPlan>(member) || (bottleneck != nullptr && bottleneck->shares());
    };
    if (std::count_if(members.begin(), members.end(), shares) > 1)
      throw Error(where, "cannot hold several prefixes, or prefixes and PHM layers that share parameters", {.remedy = "attach them as adapters of their own"});
    for (std::size_t i = 0; i < members.size(); ++i) {
      const std::string member = members.size() == 1 ? where : where + ": member " + std::to_string(i);
      const RandomKey key = derive(seed, i);
      std::visit(
          [&]<class P>(const P& plan) {
            if constexpr (std::is_same_v<P, PrefixPlan>) {
              if (plan.prefix.shifts_positions || plan.prefix.embedding > 0)
                throw Error(member + ": prefix_tuning", "is a prefix of PEFT, which AdapterHub's folders have no place for",
                            {.remedy = "start from UnionPlan::adapterhub_prefix()"});
              if (!plan.decoder_prefix)
                throw Error(member + ": prefix_tuning", "leaves out the decoder, which AdapterHub's prefixes always are in", {.remedy = "set decoder_prefix"});
              // A list of numbers there.
              plan.place(ctx, model, attachment, key, member).visit_prompts([](Parameter<X>& rows) { rows.set_file_shape({rows.size()}); });
            } else {
              if constexpr (std::is_same_v<P, PromptPlan>) {
                if (plan.prompt.like_words || plan.prompt.prompts != 1)
                  throw Error(member + ": prompt_tuning", "is a prompt of PEFT, which AdapterHub's folders have no place for",
                              {.remedy = "start from UnionPlan::adapterhub_prompt()"});
                if (!model.architecture().adapterhub_prompts)
                  throw Error(member + ": prompt_tuning", "does not exist for " + model.architecture().title + " in AdapterHub",
                              {.remedy = "use PEFT's prompt tuning"});
              }
              plan.place(ctx, model, attachment, key, member);
            }
          },
          members[i]);
    }
  }
};

// AdapterHub's configurations by their names there, old and new, and by those of the papers. Throws Error for another name.
DELTATUNE_FUNCTION UnionPlan adapterhub_preset(const std::string& name) {
  if (name == "lora") return UnionPlan::of(AdapterHubLoraPlan{});
  if (name == "ia3") return UnionPlan::of(AdapterHubLoraPlan::ia3());
  if (name == "dora") {
    AdapterHubLoraPlan plan;
    plan.kind = AdapterHubLoraPlan::Kind::dora;
    return UnionPlan::of(plan);
  }
  if (name == "prefix_tuning") return UnionPlan::of(UnionPlan::adapterhub_prefix());
  if (name == "prefix_tuning_flat") return UnionPlan::of(UnionPlan::adapterhub_prefix(30, 0));
  if (name == "prompt_tuning") return UnionPlan::of(UnionPlan::adapterhub_prompt());
  for (auto& [known, plan] : UnionPlan::methods())
    if (known == name) return plan;
  try {
    return UnionPlan::of(BottleneckPlan::of(name));
  } catch (const Error&) {
    throw Error(name, "is not a known configuration of AdapterHub",
                {.expected = "houlsby, pfeiffer, parallel, scaled_parallel, compacter, compacter++, adapter_plus, lora, dora, ia3, prefix_tuning, "
                             "prefix_tuning_flat, prompt_tuning, mam or unipelt"});
  }
}

}  // namespace deltatune
