#include "plans.hpp"

#include <algorithm>
#include <cctype>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "deltatune/attach/methods.hpp"
#include "deltatune/core/sort_stably.hpp"
#include "deltatune/delta/lora_start.hpp"
#include "deltatune/io/regex.hpp"
#include "report.hpp"

namespace deltatune::cli {

namespace {

template <class V, class... Each>
constexpr bool is_one_of = (std::is_same_v<V, Each> || ...);

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

template <class T>
T number(const std::string& text, const std::string& option) {
  T value{};
  if (!CLI::detail::lexical_cast(text, value)) throw Error(option, "is not a number in range", {.got = "\"" + text + "\""});
  return value;
}

// "PATTERN=VALUE"
std::pair<std::string, double> pattern_setting(const std::string& text, const std::string& option) {
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

// In the order given: the first that matches counts.
template <class T>
void set_patterns(const std::string& option, const std::vector<std::string>& given, Patterns<T>& to) {
  for (const std::string& text : given) {
    const std::pair<std::string, double> setting = pattern_setting(text, option);
    for (const auto& other : to)
      if (other.first.text() == setting.first) throw Error(option, "names \"" + setting.first + "\" twice", {.remedy = "leave out one of the two"});
    const auto value = static_cast<T>(setting.second);
    if (static_cast<double>(value) != setting.second) throw Error(option, "needs a whole number", {.got = "\"" + text + "\""});
    to.emplace_back(regex(setting.first, option), value);
  }
}

const std::vector<std::string> kTargetOptions{"--targets", "--exclude", "--layers"};

// The options of a setting.
std::vector<std::string> options_of(const Setting& setting) {
  if (std::holds_alternative<Targets*>(setting.value)) return kTargetOptions;
  return *setting.option == '\0' ? std::vector<std::string>{} : std::vector<std::string>{setting.option};
}

// Takes over what was given for it on the command line.
void set(const Setting& setting, const MethodOptions& given) {
  const auto values = [&](const std::string& option) -> const std::vector<std::string>& {
    static const std::vector<std::string> kNone;
    const auto found = given.values.find(option);
    return found == given.values.end() ? kNone : found->second;
  };
  const auto numbers = [&](const std::string& option) {
    std::vector<Index> all;
    for (const std::string& text : values(option)) all.push_back(number<Index>(text, option));
    return all;
  };
  const std::string option = setting.option;
  std::visit(
      [&]<class V>(const V& value) {
        if constexpr (std::is_same_v<V, Targets*>) {
          if (const std::string text = given.text("--targets"); text == "all-linear") {
            *value = Targets::every_linear();
          } else if (!text.empty()) {
            *value = Targets::named(split(text));
          }
          if (!values("--exclude").empty()) value->exclude.names = split(given.text("--exclude"));
          if (!values("--layers").empty()) value->layers = numbers("--layers");
        } else if (option.empty() || values(option).empty()) {
          return;
        } else if constexpr (is_one_of<V, Patterns<Index>*, Patterns<double>*>) {
          set_patterns(option, values(option), *value);
        } else if constexpr (std::is_same_v<V, Choice>) {
          std::string word = values(option).back();
          for (const std::string& known : value.words())
            if (lower(known) == lower(word)) word = known;
          value.set(word, option);
        } else if constexpr (std::is_same_v<V, std::vector<Index>*>) {
          *value = numbers(option);
        } else if constexpr (std::is_same_v<V, std::vector<std::string>*>) {
          *value = values(option);
        } else if constexpr (std::is_same_v<V, bool*>) {
          *value = CLI::detail::to_flag_value(values(option).back()) > 0;
        } else if constexpr (std::is_same_v<V, double*>) {
          *value = number<double>(values(option).back(), option);
        } else if constexpr (std::is_same_v<V, Index*>) {
          *value = number<Index>(values(option).back(), option);
        } else {
          *value = values(option).back();
        }
      },
      setting.value);
}

std::vector<std::string> method_list(const MethodOptions& options) {
  // "compacter++" ends in what else joins.
  std::string list = options.method;
  const std::string plus = "compacter++", stand_in = "compacter_plus";
  for (std::size_t at = list.find(plus); at != std::string::npos; at = list.find(plus)) list.replace(at, plus.size(), stand_in);
  if (list.empty() || list.front() == '+' || list.back() == '+' || list.find("++") != std::string::npos)
    throw Error("--method", "has a + without a method before or after it", {.got = "\"" + options.method + "\""});
  std::vector<std::string> methods;
  for (const std::string& name : split(list, '+')) {
    methods.push_back(name == stand_in ? plus : name);
    if (std::count(methods.begin(), methods.end(), methods.back()) > 1) throw Error("--method", "names " + methods.back() + " twice");
  }
  if (methods.empty()) throw Error("--method", "names no method");
  if (methods.size() > 1 && std::count(methods.begin(), methods.end(), "full") > 0) throw Error("--method", "full trains everything: nothing goes beside it");
  return methods;
}

// What a prompt starts from: of the model's own vocabulary.
void set_prompt_start(PromptPlan& plan, const MethodOptions& options, const std::vector<std::string>& labels, const TextEncoder& tokenizer) {
  using Kind = PromptStart::Kind;
  if (plan.start.kind == Kind::text) {
    if (plan.text.empty()) throw Error("--prompt-text", "is missing", {.remedy = "give the text that the prompt starts from"});
    plan.tokenizer = tokenizer.folder;
    plan.start.tokens = {tokenizer.encode(plan.text, true)};  // as PEFT does, special tokens and all
  } else if (!options.text("--prompt-text").empty()) {
    throw Error("--prompt-text", "is for --prompt-init text");
  }
  if (plan.start.kind != Kind::labels) return;
  if (labels.empty()) throw Error("--prompt-init labels", "needs names of classes", {.remedy = "it is for classification"});
  for (const std::string& label : labels) plan.start.tokens.push_back(tokenizer.encode(label, false));
}

// An option that methods have in common: how it is read, and what each has where it is not given.
struct MethodOption {
  std::string name, help, group;
  Setting::Value value;
  std::vector<std::string> methods = {};
  std::vector<std::pair<std::string, std::vector<std::string>>> defaults = {};  // a value, and the methods that have it
};

std::string default_text(const Setting& setting) {
  return std::visit(
      [&]<class V>(const V& value) -> std::string {
        if constexpr (std::is_same_v<V, Choice>) {
          return value.word();
        } else if constexpr (is_one_of<V, Index*, double*>) {
          return *value == 0 && *setting.zero != '\0' ? setting.zero : formatted("%g", static_cast<double>(*value));
        } else {
          return "";
        }
      },
      setting.value);
}

// All options of all methods, in the order of the methods and their settings.
std::vector<MethodOption> method_options() {
  static const std::map<std::string, std::string> kTargetHelp{{"--targets", "layers by the ends of their names, or all-linear [the usual ones of the method]"},
                                                              {"--exclude", "layers to leave out"},
                                                              {"--layers", "numbers of the layers to adapt [all]"}};
  static std::vector<Method> methods = all_methods();  // the settings point into them
  std::vector<MethodOption> all;
  for (Method& method : methods)
    for (const Setting& setting : settings_of(method.plan))
      for (const std::string& name : options_of(setting)) {
        auto option = std::find_if(all.begin(), all.end(), [&](const MethodOption& other) { return other.name == name; });
        if (option == all.end()) {
          const auto target_help = kTargetHelp.find(name);
          option = all.insert(all.end(), {name, target_help == kTargetHelp.end() ? setting.help : target_help->second, method.group, setting.value});
        }
        if (!option->methods.empty() && option->methods.back() == method.name) continue;  // a union's members
        option->methods.push_back(method.name);
        const std::string text = default_text(setting);
        const auto same = std::find_if(option->defaults.begin(), option->defaults.end(), [&](const auto& other) { return other.first == text; });
        if (same != option->defaults.end()) {
          same->second.push_back(method.name);
        } else {
          option->defaults.push_back({text, {method.name}});
        }
      }
  return all;
}

// "lora, dora: scaling is alpha / rank [16]"; a value that most have stands first, and without their names.
std::string help_of(const MethodOption& option) {
  constexpr std::size_t kNamed = 9;  // methods, at most
  std::string text = option.methods.size() <= kNamed ? joined(option.methods) + ": " + option.help : option.help;
  auto defaults = option.defaults;
  if (defaults.size() == 1 && defaults[0].first.empty()) return text;
  deltatune::detail::sort_stably(defaults.begin(), defaults.end(), [](const auto& a, const auto& b) { return a.second.size() > b.second.size(); });
  text += " [" + defaults[0].first;
  for (std::size_t i = 1; i < defaults.size(); ++i) text += "; " + joined(defaults[i].second) + " " + defaults[i].first;
  return text + "]";
}

CLI::Option* add_option(CLI::App& command, const MethodOption& option, MethodOptions& o) {
  const std::string help = help_of(option);
  return std::visit(
      [&]<class V>(const V& value) -> CLI::Option* {
        if constexpr (std::is_same_v<V, bool*>) {
          return command.add_flag(option.name, o.flags[option.name], help);
        } else if constexpr (std::is_same_v<V, Index*>) {
          return command.add_option_function<Index>(
              option.name, [](const Index&) {}, help);
        } else if constexpr (std::is_same_v<V, double*>) {
          return command.add_option_function<double>(
              option.name, [](const double&) {}, help);
        } else if constexpr (std::is_same_v<V, std::vector<Index>*>) {
          return command
              .add_option_function<std::vector<Index>>(
                  option.name, [](const std::vector<Index>&) {}, help)
              ->delimiter(',');
        } else if constexpr (is_one_of<V, Patterns<Index>*, Patterns<double>*>) {
          return command.add_option_function<std::vector<std::string>>(
              option.name, [](const std::vector<std::string>&) {}, help);
        } else if constexpr (std::is_same_v<V, Targets*>) {
          if (option.name == "--layers")
            return command
                .add_option_function<std::vector<Index>>(
                    option.name, [](const std::vector<Index>&) {}, help)
                ->delimiter(',');
          return command.add_option_function<std::string>(
              option.name, [](const std::string&) {}, help);
        } else {
          CLI::Option* const added = command.add_option_function<std::string>(
              option.name, [](const std::string&) {}, help);
          if constexpr (std::is_same_v<V, Choice>) {
            if (value.words().size() <= 6) added->check(CLI::IsMember(value.words(), CLI::ignore_case));  // the help has room for them
          }
          return added;
        }
      },
      option.value);
}

}  // namespace

std::string MethodOptions::text(const std::string& option) const {
  const auto found = values.find(option);
  return found == values.end() ? "" : CLI::detail::join(found->second);
}
std::map<std::string, std::string> MethodOptions::given() const {
  std::map<std::string, std::string> all;
  for (const auto& [option, unused] : values) all[option] = text(option);
  return all;
}

Index whole_number(const std::string& text, const std::string& option) { return number<Index>(text, option); }

std::vector<std::string> split(const std::string& list, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(list);
  for (std::string part; std::getline(stream, part, separator);)
    if (!part.empty()) parts.push_back(part);
  return parts;
}

std::vector<AnyPlan> plans_of(const MethodOptions& options) {
  std::vector<AnyPlan> plans;
  std::set<std::string> used{"--modules-to-save"};
  for (const std::string& name : method_list(options)) {
    AnyPlan plan = method_named(name, "--method", ", or several joined by +").plan;
    if (!options.text("--prompt-text").empty())
      if (PromptPlan* const prompt = std::get_if<PromptPlan>(&plan)) prompt->start.kind = PromptStart::Kind::text;
    for (const Setting& setting : settings_of(plan)) {
      set(setting, options);
      for (const std::string& option : options_of(setting)) used.insert(option);
    }
    if (LoraPlan* const lora = std::get_if<LoraPlan>(&plan)) {
      used.insert({"--init", "--lora-plus-ratio"});
      const std::string start = options.text("--init");
      if (start == "pissa") lora->start = pissa();
      if (start == "olora") lora->start = olora();
    }
    if (AdaLoraPlan* const adalora = std::get_if<AdaLoraPlan>(&plan); adalora != nullptr && !options.values.contains("--target-rank"))
      adalora->adalora.target = std::min(adalora->adalora.target, adalora->adalora.rank);
    base_of(plan).name = name;
    if (options.values.contains("--modules-to-save")) base_of(plan).modules_to_save = split(options.text("--modules-to-save"));
    plans.push_back(std::move(plan));
  }
  for (const auto& [option, value] : options.values)
    if (!used.contains(option)) throw Error(option, "is not an option of --method " + options.method, {.remedy = "leave it out, or choose another method"});
  return plans;
}

std::vector<AnyPlan> plans_of(const MethodOptions& options, const ModelFamily& family, const std::vector<std::string>& labels, const TextEncoder& tokenizer) {
  std::vector<AnyPlan> plans = plans_of(options);
  if (!family.architecture.encoder)
    for (const char* const option : {"--encoder-prefix", "--decoder-prefix", "--cross-prefix"})
      if (options.values.contains(option))
        throw Error(option, "is for encoder-decoders, and " + family.architecture.title + " has one stack of layers", {.remedy = "leave it out"});
  for (AnyPlan& plan : plans) {
    if (SelectionPlan* const selection = std::get_if<SelectionPlan>(&plan)) selection->choose(family);
    if (PromptPlan* const prompt = std::get_if<PromptPlan>(&plan)) set_prompt_start(*prompt, options, labels, tokenizer);
  }
  return plans;
}

Index positions_taken(const MethodOptions& options) {
  Index taken = 0;
  for (const AnyPlan& plan : plans_of(options)) taken += virtual_tokens_of(plan);
  return taken;
}

void add_method_options(CLI::App& command, MethodOptions& o) {
  command.add_option("--method", o.method, "What to train: " + method_names() + ", or several joined by + (head: the output layer only, full: everything)")
      ->capture_default_str();
  std::vector<CLI::Option*> added;
  for (const MethodOption& option : method_options()) added.push_back(add_option(command, option, o)->group(option.group));
  const std::string weights = LoraPlan::kGroup;
  added.push_back(command
                      .add_option_function<std::string>(
                          "--init", [](const std::string&) {}, "lora, dora: how A and B start: default, pissa or olora [default]")
                      ->check(CLI::IsMember({"default", "pissa", "olora"}))
                      ->group(weights));
  added.push_back(command.add_option("--lora-plus-ratio", o.lora_plus_ratio, "lora, dora: learning rate of B over that of A (LoRA+)")
                      ->check(CLI::PositiveNumber)
                      ->group(weights));
  added.push_back(command
                      .add_option_function<std::string>(
                          "--modules-to-save", [](const std::string&) {},
                          "modules trained as a whole [the output layer]; wte or lm_head: that one alone, if the two are tied")
                      ->group(weights));
  command.parse_complete_callback([&o, added] {
    for (const CLI::Option* const option : added)
      if (option->count() > 0) o.values[option->get_name()] = option->results();
  });
}

}  // namespace deltatune::cli
