#include "config_file.hpp"

#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>

#include "deltatune/core/error.hpp"
#include "deltatune/version.hpp"
#include "suggestion.hpp"

namespace deltatune::cli {

namespace {

constexpr const char* kConfigOption = "--config";

// Takes --config FILE, or --config=FILE, out of the arguments. "": there is none.
std::string take_config(std::vector<std::string>& arguments_io) {
  for (auto at = arguments_io.begin(); at != arguments_io.end() && *at != "--"; ++at) {
    if (at->starts_with("--config=")) {
      const std::string file = at->substr(std::string("--config=").size());
      arguments_io.erase(at);
      return file;
    }
    if (*at != kConfigOption) continue;
    if (at + 1 == arguments_io.end()) throw Error(kConfigOption, "needs a file", {.expected = "a YAML or JSON file"});
    const std::string file = at[1];
    arguments_io.erase(at, at + 2);
    return file;
  }
  return "";
}

// Whether the arguments name the option.
bool names(const std::vector<std::string>& arguments, const CLI::Option& option) {
  for (const std::string& argument : arguments) {
    if (argument == "--") return false;
    if (argument.starts_with("--") && option.check_lname(argument.substr(2, argument.find('=') - 2))) return true;
  }
  return false;
}

bool is_flag(const CLI::Option& option) { return option.get_items_expected_max() == 0; }

std::string option_name(std::string key) {
  std::replace(key.begin(), key.end(), '_', '-');
  return key;
}

class ConfigFile {
 public:
  explicit ConfigFile(const std::string& path) : path_(path) {
    std::ifstream stream(path, std::ios::binary);
    if (!stream) throw Error(path, "can't be read", {.remedy = "does --config name the right file?"});
    try {
      root_ = YAML::Load(std::string(std::istreambuf_iterator<char>(stream), {}));
    } catch (const YAML::Exception& error) {
      throw Error(place(error.mark), "is neither YAML nor JSON", {.got = error.msg});
    }
    if (!root_.IsMap()) throw Error(path, "has no options", {.expected = "lines such as 'learning-rate: 1e-3'"});
  }

  // Of the command's options those that the arguments do not name.
  std::vector<std::string> arguments(CLI::App& command, const std::vector<std::string>& given) const {
    std::vector<std::string> result, known;
    for (const CLI::Option* const option : command.get_options())
      for (const std::string& name : option->get_lnames())
        if (name != "config" && name != "help") known.push_back(name);
    std::set<std::string> seen;
    for (const auto& entry : root_) {
      const std::string key = scalar(entry.first, "a name"), name = option_name(key);
      const std::string where = place(entry.first.Mark()) + ": " + key;
      if (!seen.insert(name).second) throw Error(where, "is given twice", {.remedy = "leave out one of the two"});
      if (name == "command" || name == "version") {
        check_origin(where, name, scalar(entry.second, where), command.get_name());
        continue;
      }
      if (std::find(known.begin(), known.end(), name) == known.end()) {
        const std::string meant = nearest(name, known);
        throw Error(where, "is no option of '" + command.get_name() + "'",
                    {.remedy = meant.empty() ? "'deltatune " + command.get_name() + " --help' lists all" : "did you mean " + meant + "?"});
      }
      const CLI::Option& option = *command.get_option("--" + name);
      if (!names(given, option)) add(option, where, entry.second, result);
    }
    return result;
  }

 private:
  std::string place(const YAML::Mark& mark) const { return mark.is_null() ? path_ : path_ + ": line " + std::to_string(mark.line + 1); }

  static std::string scalar(const YAML::Node& node, const std::string& where) {
    if (!node.IsScalar()) throw Error(where, "has no value", {.expected = "a text or a number"});
    return node.Scalar();
  }

  static void check_origin(const std::string& where, const std::string& name, const std::string& got, const std::string& command) {
    if (name == "command" && got != command) throw Error(where, "is another command", {.expected = command, .got = got});
    if (name == "version" && got != DELTATUNE_VERSION_STRING)
      throw Error(where, "is another version of deltatune, whose options and defaults may be others",
                  {.expected = DELTATUNE_VERSION_STRING, .got = got, .remedy = "look through the options, then leave out this line"});
  }

  static void add(const CLI::Option& option, const std::string& where, const YAML::Node& value, std::vector<std::string>& result_io) {
    const std::string name = "--" + option.get_lnames().front();
    bool on = false;
    if (is_flag(option) || (option.get_items_expected_min() == 0 && value.IsScalar() && YAML::convert<bool>::decode(value, on))) {
      if (!value.IsScalar() || !YAML::convert<bool>::decode(value, on))
        throw Error(where, "needs true or false", {.got = value.IsScalar() ? value.Scalar() : ""});
      if (on) result_io.push_back(name);
      return;
    }
    if (!value.IsSequence()) {
      result_io.push_back(name + "=" + scalar(value, where));
      return;
    }
    std::string joined;
    for (const YAML::Node& each : value) {
      const std::string text = scalar(each, where);
      if (option.get_items_expected_max() > 1) result_io.push_back(name + "=" + text);
      joined += (joined.empty() ? "" : ",") + text;
    }
    if (option.get_items_expected_max() == 1) result_io.push_back(name + "=" + joined);
  }

  std::string path_;
  YAML::Node root_;
};

}  // namespace

std::vector<std::string> with_config(CLI::App& app, std::vector<std::string> arguments) {
  if (arguments.empty()) return arguments;
  const std::vector<CLI::App*> found = app.get_subcommands([&](const CLI::App* each) { return each->get_name() == arguments.front(); });
  const std::string path = found.empty() ? "" : take_config(arguments);
  if (path.empty()) return arguments;
  if (const std::string second = take_config(arguments); !second.empty())
    throw Error(kConfigOption, "is given twice", {.got = path + " and " + second, .remedy = "put the options into one file"});
  const std::vector<std::string> more = ConfigFile(path).arguments(*found.front(), arguments);
  arguments.insert(arguments.begin() + 1, more.begin(), more.end());
  return arguments;
}

std::string config_text(const CLI::App& command, const std::set<std::string>& left_out) {
  YAML::Emitter out;
  out << YAML::BeginMap << YAML::Key << "command" << YAML::Value << command.get_name();
  out << YAML::Key << "version" << YAML::Value << DELTATUNE_VERSION_STRING;
  for (const CLI::Option* const option : command.get_options([](const CLI::Option* each) { return each->count() > 0; })) {
    const std::string& name = option->get_lnames().front();
    if (left_out.contains(name)) continue;
    out << YAML::Key << name << YAML::Value;
    const std::vector<std::string>& values = option->results();
    if (is_flag(*option)) {
      out << true;
    } else if (values.size() == 1) {
      out << values.front();
    } else {
      out << YAML::Flow << values;
    }
  }
  out << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

}  // namespace deltatune::cli
