#include "plans.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "deltatune/delta/lora_start.hpp"
#include "deltatune/io/regex.hpp"

namespace deltatune::cli {

namespace {

// "PATTERN=VALUE"
std::pair<std::string, double> pattern_setting(const std::string& text, const char* option) {
  const std::size_t equals = text.rfind('=');
  try {
    std::size_t used = 0;
    const std::string value = equals == std::string::npos ? "" : text.substr(equals + 1);
    const double number = std::stod(value, &used);
    if (used == value.size()) return {text.substr(0, equals), number};
  } catch (const std::exception&) {
  }
  throw Error(option, "cannot be read", {.expected = "PATTERN=NUMBER", .got = "\"" + text + "\""});
}

ops::Activation activation_named(const std::string& name) {
  using ops::Activation;
  static const std::map<std::string, Activation> kNames{{"relu", Activation::relu},  {"gelu", Activation::gelu}, {"gelu_new", Activation::gelu_new},
                                                        {"swish", Activation::silu}, {"silu", Activation::silu}, {"tanh", Activation::tanh}};
  const auto found = kNames.find(name);
  if (found == kNames.end()) throw Error("--non-linearity", "is not known", {.expected = "relu, gelu, gelu_new, swish or tanh", .got = "\"" + name + "\""});
  return found->second;
}

// Makes the plans and takes note of the options that they asked for.
class Maker {
 public:
  Maker(const MethodOptions& options, const ModelFamily& family, const std::vector<std::string>& labels, const TextEncoder& tokenizer)
      : o_(options), family_(family), labels_(labels), tokenizer_(tokenizer) {}

  AnyPlan make(const std::string& name) {
    AnyPlan plan = of(name);
    PlanBase& base = base_of(plan);
    base.name = name;
    if (asked("--modules-to-save", o_.modules_to_save)) base.modules_to_save = split(*o_.modules_to_save);
    return plan;
  }

  // Throws Error for an option that was given and that nobody asked for.
  void finish(const std::string& methods) const {
    for (const auto& [option, value] : o_.given)
      if (!asked_.contains(option)) throw Error(option, "is not an option of --method " + methods, {.remedy = "leave it out, or choose another method"});
  }

 private:
  template <class T>
  bool asked(const char* option, const std::optional<T>& value) {
    asked_.insert(option);
    return value.has_value();
  }
  template <class T, class U>
  void set(const char* option, const std::optional<T>& value, U& to) {
    if (asked(option, value)) to = static_cast<U>(*value);
  }

  AnyPlan of(const std::string& name) {
    if (name == "lora" || name == "dora") return lora(name == "dora");
    if (name == "adalora") return adalora();
    if (name == "vera") {
      VeraPlan plan;
      set("--rank", o_.rank, plan.vera.rank);
      set("--dropout", o_.dropout, plan.vera.dropout);
      set("--d-initial", o_.d_initial, plan.vera.d_initial);
      targets(plan.targets);
      return plan;
    }
    if (name == "miss") {
      MissPlan plan;
      set("--rank", o_.rank, plan.miss.rank);
      set("--dropout", o_.dropout, plan.miss.dropout);
      targets(plan.targets);
      return plan;
    }
    if (name == "ia3") {
      Ia3Plan plan;
      targets(plan.targets);
      return plan;
    }
    if (name == "houlsby" || name == "pfeiffer" || name == "parallel" || name == "compacter" || name == "compacter++" || name == "adapter_plus" ||
        name == "mam" || name == "unipelt") {
      AdapterHubPlan plan = adapterhub_preset(name);
      for (AdapterHubMember& member : plan.members) std::visit([this](auto& each) { adjust(each); }, member);
      return plan;
    }
    if (name == "prefix" || name == "prefix_mlp") {
      PrefixPlan plan;
      set("--virtual-tokens", o_.virtual_tokens, plan.prefix.rows);
      set("--dropout", o_.dropout, plan.prefix.dropout);
      if (name == "prefix_mlp") {
        plan.prefix.hidden = 512;
        set("--encoder-hidden", o_.encoder_hidden, plan.prefix.hidden);
      }
      return plan;
    }
    if (name == "prompt") return prompt();
    if (name == "p_tuning") {
      PTuningPlan plan;
      set("--virtual-tokens", o_.virtual_tokens, plan.p_tuning.rows);
      set("--encoder-hidden", o_.encoder_hidden, plan.p_tuning.hidden);
      set("--dropout", o_.dropout, plan.p_tuning.dropout);
      if (asked("--encoder", o_.encoder)) plan.p_tuning.encoder = *o_.encoder == "lstm" ? PTuningConfig::Encoder::lstm : PTuningConfig::Encoder::mlp;
      return plan;
    }
    if (name == "diff_pruning") {
      DiffPruningPlan plan;
      set("--density", o_.density, plan.diff.density);
      set("--penalty", o_.penalty, plan.diff.penalty);
      set("--prune-at", o_.prune_at, plan.diff.prune_at);
      asked_.insert("--structured");
      plan.diff.structured = o_.structured;
      return plan;
    }
    if (name == "full") return SelectionPlan(full_fine_tuning());
    if (name == "head") return SelectionPlan(head_only(family_));
    if (name == "bitfit") return SelectionPlan(bitfit(family_));
    if (name == "bitfit_query_ffn") return SelectionPlan(bitfit_query_ffn(family_));
    if (name == "layer_norm") {
      NormTuningPlan plan;
      if (asked("--targets", o_.targets)) {
        plan.targets = Targets::named(split(*o_.targets));
      } else if (const DefaultTargets* const norms = family_.architecture.targets_of(NormTuningPlan::kPeftType)) {
        plan.targets = Targets::named(norms->names);
      }
      return plan;
    }
    if (name == "last_layers") {
      Index count = 1;
      set("--last-layers", o_.last_layers, count);
      return SelectionPlan(last_layers(count, family_));
    }
    throw Error(
        "--method", "is not known for this model",
        {.expected =
             "lora, dora, adalora, vera, miss, ia3, houlsby, pfeiffer, parallel, compacter, compacter++, adapter_plus, prefix, prefix_mlp, prompt, p_tuning, "
             "diff_pruning, mam, unipelt, bitfit, bitfit_query_ffn (BERT), layer_norm, last_layers, head or full, or several joined by +",
         .got = "\"" + name + "\""});
  }

  void targets(Targets& to) {
    if (asked("--targets", o_.targets)) to = *o_.targets == "all-linear" ? Targets::every_linear() : Targets::named(split(*o_.targets));
    if (asked("--exclude", o_.exclude)) to.exclude.names = split(*o_.exclude);
    asked_.insert("--layers");
    if (!o_.layers.empty()) to.layers = o_.layers;
  }

  // In the order given: the first that matches counts.
  template <class Setting>
  void patterns(const char* option, const std::vector<std::string>& given, std::vector<std::pair<Pattern, Setting>>& to) {
    asked_.insert(option);
    for (const std::string& text : given) {
      const std::pair<std::string, double> setting = pattern_setting(text, option);
      for (const auto& other : to)
        if (other.first.text() == setting.first) throw Error(option, "names \"" + setting.first + "\" twice", {.remedy = "leave out one of the two"});
      const auto value = static_cast<Setting>(setting.second);
      if (static_cast<double>(value) != setting.second) throw Error(option, "needs a whole number", {.got = "\"" + text + "\""});
      to.emplace_back(regex(setting.first, option), value);
    }
  }

  AnyPlan lora(bool dora) {
    LoraPlan plan;
    plan.dora = dora;
    plan.lora = {.rank = 8, .alpha = 16};
    set("--rank", o_.rank, plan.lora.rank);
    set("--alpha", o_.alpha, plan.lora.alpha);
    set("--dropout", o_.dropout, plan.lora.dropout);
    asked_.insert("--rslora");
    plan.lora.rank_stabilized = o_.rank_stabilized;
    targets(plan.targets);
    patterns("--rank-pattern", o_.rank_pattern, plan.rank_pattern);
    patterns("--alpha-pattern", o_.alpha_pattern, plan.alpha_pattern);
    if (asked("--bias", o_.bias)) plan.bias = *o_.bias == "all" ? BiasTraining::all : *o_.bias == "lora_only" ? BiasTraining::targets : BiasTraining::none;
    if (asked("--init", o_.init)) plan.start = *o_.init == "pissa" ? pissa() : *o_.init == "olora" ? olora() : LoraStart();
    asked_.insert("--lora-plus-ratio");
    return plan;
  }

  AnyPlan adalora() {
    AdaLoraPlan plan;
    plan.adalora.alpha = 16;
    set("--rank", o_.rank, plan.adalora.rank);
    set("--target-rank", o_.target_rank, plan.adalora.target);
    if (!o_.target_rank) plan.adalora.target = std::min(plan.adalora.target, plan.adalora.rank);
    set("--alpha", o_.alpha, plan.adalora.alpha);
    set("--dropout", o_.dropout, plan.adalora.dropout);
    set("--tinit", o_.tinit, plan.adalora.first);
    set("--tfinal", o_.tfinal, plan.adalora.last);
    set("--delta-t", o_.delta_t, plan.adalora.every);
    set("--orthogonal-penalty", o_.orthogonal_penalty, plan.adalora.penalty);
    targets(plan.targets);
    return plan;
  }

  void adjust(AdapterHubBottleneck& to) {
    set("--reduction-factor", o_.reduction_factor, to.reduction.factor);
    set("--dropout", o_.dropout, to.adapter.dropout);
    set("--scaling", o_.scaling, to.adapter.scale);
    if (asked("--non-linearity", o_.non_linearity)) to.adapter.activation = activation_named(*o_.non_linearity);
    leave_out(to.leave_out);
  }
  void adjust(AdapterHubLoraMember& to) {
    set("--rank", o_.rank, to.lora.rank);
    set("--dropout", o_.dropout, to.lora.dropout);
    leave_out(to.leave_out);
  }
  void adjust(AdapterHubPrefix& to) {
    set("--virtual-tokens", o_.virtual_tokens, to.prefix.rows);
    set("--encoder-hidden", o_.encoder_hidden, to.prefix.hidden);
    set("--dropout", o_.dropout, to.prefix.dropout);
    leave_out(to.leave_out);
  }
  void adjust(AdapterHubPrompt& to) { set("--virtual-tokens", o_.virtual_tokens, to.prompt.rows); }
  void leave_out(std::vector<Index>& to) {
    asked_.insert("--leave-out");
    to = o_.leave_out;
  }

  AnyPlan prompt() {
    PromptPlan plan;
    set("--virtual-tokens", o_.virtual_tokens, plan.prompt.rows);
    const std::string init = asked("--prompt-init", o_.prompt_init) ? *o_.prompt_init : o_.prompt_text ? "text" : "vocabulary";
    using Kind = PromptStart::Kind;
    static const std::map<std::string, Kind> kKinds{
        {"random", Kind::normal}, {"scaled", Kind::vocabulary_scale}, {"vocabulary", Kind::vocabulary}, {"text", Kind::text}, {"labels", Kind::labels}};
    plan.start.kind = kKinds.at(init);
    asked_.insert("--prompt-text");
    if (init == "text") {
      if (!o_.prompt_text) throw Error("--prompt-text", "is missing", {.remedy = "give the text that the prompt starts from"});
      plan.text = *o_.prompt_text;
      plan.tokenizer = tokenizer_.folder;
      plan.start.tokens = {tokenizer_.encode(*o_.prompt_text, true)};  // as PEFT does, special tokens and all
    } else if (o_.prompt_text) {
      throw Error("--prompt-text", "is for --prompt-init text");
    }
    if (init == "labels") {
      if (labels_.empty()) throw Error("--prompt-init labels", "needs names of classes", {.remedy = "it is for classification"});
      for (const std::string& label : labels_) plan.start.tokens.push_back(tokenizer_.encode(label, false));
    }
    return plan;
  }

  const MethodOptions& o_;
  const ModelFamily& family_;
  const std::vector<std::string>& labels_;
  const TextEncoder& tokenizer_;
  std::set<std::string> asked_;
};

}  // namespace

std::vector<std::string> split(const std::string& list, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(list);
  for (std::string part; std::getline(stream, part, separator);)
    if (!part.empty()) parts.push_back(part);
  return parts;
}

std::vector<AnyPlan> plans_of(const MethodOptions& options, const ModelFamily& family, const std::vector<std::string>& labels, const TextEncoder& tokenizer) {
  Maker maker(options, family, labels, tokenizer);
  std::vector<AnyPlan> plans;
  // "compacter++" ends in what else joins.
  std::string list = options.method;
  const std::string plus = "compacter++", stand_in = "compacter_plus";
  for (std::size_t at = list.find(plus); at != std::string::npos; at = list.find(plus)) list.replace(at, plus.size(), stand_in);
  if (list.empty() || list.front() == '+' || list.back() == '+' || list.find("++") != std::string::npos)
    throw Error("--method", "has a + without a method before or after it", {.got = "\"" + options.method + "\""});
  std::set<std::string> seen;
  for (const std::string& name : split(list, '+')) {
    const std::string method = name == stand_in ? plus : name;
    if (!seen.insert(method).second) throw Error("--method", "names " + method + " twice");
    plans.push_back(maker.make(method));
  }
  if (plans.empty()) throw Error("--method", "names no method");
  if (plans.size() > 1 && seen.contains("full")) throw Error("--method", "full trains everything: nothing goes beside it");
  maker.finish(options.method);
  return plans;
}

Index positions_taken(const MethodOptions& options) {
  Index taken = 0;
  for (const std::string& method : split(options.method, '+'))
    if (method == "prefix" || method == "prefix_mlp" || method == "prompt" || method == "p_tuning") taken += options.virtual_tokens.value_or(20);
  return taken;
}

void add_method_options(CLI::App& command, MethodOptions& o) {
  command
      .add_option(
          "--method", o.method,
          "What to train: lora, dora, adalora, vera, miss, ia3, houlsby, pfeiffer, parallel, compacter, compacter++, adapter_plus, prefix, prefix_mlp, prompt, "
          "p_tuning, diff_pruning, mam, unipelt, bitfit, bitfit_query_ffn, layer_norm, last_layers, head (output layer only), full (everything), or "
          "several joined by +")
      ->capture_default_str();
  const char* const weights = "Methods on weights";
  command.add_option("--rank", o.rank, "lora, dora, adalora, vera, miss, unipelt: rank [8, 8, 12, 256, 64, 8]")->group(weights);
  command.add_option("--alpha", o.alpha, "lora, dora, adalora: scaling is alpha / rank [16]")->group(weights);
  command.add_option("--dropout", o.dropout, "dropout inside the method [0]")->group(weights);
  command.add_flag("--rslora", o.rank_stabilized, "lora, dora: scaling is alpha / sqrt(rank)")->group(weights);
  command.add_option("--init", o.init, "lora: start, default, pissa or olora")->check(CLI::IsMember({"default", "pissa", "olora"}))->group(weights);
  command.add_option("--lora-plus-ratio", o.lora_plus_ratio, "lora, dora: learning rate of B over that of A (LoRA+)")
      ->check(CLI::PositiveNumber)
      ->group(weights);
  command.add_option("--targets", o.targets, "layers by the ends of their names, or all-linear [the usual ones of the method]")->group(weights);
  command.add_option("--exclude", o.exclude, "layers to leave out")->group(weights);
  command.add_option("--layers", o.layers, "numbers of the layers to adapt [all]")->delimiter(',')->group(weights);
  command.add_option("--rank-pattern", o.rank_pattern, "lora, dora: another rank for some layers, PATTERN=RANK; the first that matches counts")->group(weights);
  command.add_option("--alpha-pattern", o.alpha_pattern, "lora, dora: another alpha for some layers, PATTERN=ALPHA")->group(weights);
  command.add_option("--bias", o.bias, "lora, dora: biases to train as well: none, all, lora_only")
      ->check(CLI::IsMember({"none", "all", "lora_only"}))
      ->group(weights);
  command
      .add_option("--modules-to-save", o.modules_to_save, "modules trained as a whole [the output layer]; wte or lm_head: that one alone, if the two are tied")
      ->group(weights);
  command.add_option("--target-rank", o.target_rank, "adalora: ranks a layer in the end, on average [8]")->group(weights);
  command.add_option("--tinit", o.tinit, "adalora: updates before ranks are taken away [0]")->group(weights);
  command.add_option("--tfinal", o.tfinal, "adalora: updates at the end without that [0]")->group(weights);
  command.add_option("--delta-t", o.delta_t, "adalora: updates between [1]")->group(weights);
  command.add_option("--orthogonal-penalty", o.orthogonal_penalty, "adalora: weight of the penalty [0.5]")->group(weights);
  command.add_option("--d-initial", o.d_initial, "vera: start of d [0.1]")->group(weights);
  const char* const adapters = "Adapters (houlsby, pfeiffer, parallel, compacter, adapter_plus, mam, unipelt)";
  command.add_option("--reduction-factor", o.reduction_factor, "width of the model over that of the adapter [16, 16, 2, 32, 96, 2, 16]")->group(adapters);
  command.add_option("--non-linearity", o.non_linearity, "relu, gelu, gelu_new, swish or tanh [the method's]")->group(adapters);
  command.add_option("--scaling", o.scaling, "factor on the adapter's output [1, parallel and mam 4]")->group(adapters);
  command.add_option("--leave-out", o.leave_out, "numbers of layers without one (AdapterDrop)")->delimiter(',')->group(adapters);
  const char* const prompts = "Prefixes and prompts";
  command.add_option("--virtual-tokens", o.virtual_tokens, "prefix, prefix_mlp, prompt, p_tuning, mam, unipelt: rows [20, 20, 20, 20, 30, 10]")->group(prompts);
  command.add_option("--encoder-hidden", o.encoder_hidden, "prefix_mlp, p_tuning, mam, unipelt: width of the encoder [512, the model's, 800, 512]")
      ->group(prompts);
  command.add_option("--encoder", o.encoder, "p_tuning: mlp or lstm [mlp]")->check(CLI::IsMember({"mlp", "lstm"}))->group(prompts);
  command.add_option("--prompt-init", o.prompt_init, "prompt: random, scaled (as wide as words), vocabulary (random words), text or labels [vocabulary]")
      ->check(CLI::IsMember({"random", "scaled", "vocabulary", "text", "labels"}))
      ->group(prompts);
  command.add_option("--prompt-text", o.prompt_text, "prompt: the text it starts from")->group(prompts);
  const char* const others = "Other methods";
  command.add_option("--density", o.density, "diff_pruning: share of the weights that differ in the end [0.005]")->group(others);
  command.add_option("--penalty", o.penalty, "diff_pruning: weight of the L0 penalty [1.25e-7]")->group(others);
  command.add_option("--prune-at", o.prune_at, "diff_pruning: updates before the others are dropped [half of the run]")->group(others);
  command.add_flag("--structured", o.structured, "diff_pruning: one more gate for each parameter")->group(others);
  command.add_option("--last-layers", o.last_layers, "last_layers: how many [1]")->group(others);

  const std::set<std::string> groups{weights, adapters, prompts, others};
  command.parse_complete_callback([&command, &o, groups] {
    for (const CLI::Option* option : command.get_options([&](const CLI::Option* each) { return each->count() > 0 && groups.contains(each->get_group()); }))
      o.given[option->get_name()] = CLI::detail::join(option->results());
  });
}

}  // namespace deltatune::cli
