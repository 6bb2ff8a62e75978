// What the command line says of itself: help in lines that fit the screen, and mistakes in the words of all other errors.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "deltatune/core/error.hpp"
#include "display.hpp"

namespace deltatune::cli {

class HelpFormatter : public CLI::Formatter {
 public:
  explicit HelpFormatter(std::size_t width) : width_(std::max(width, std::size_t{50})) {}

  std::string make_description(const CLI::App* app) const override { return wrapped(CLI::Formatter::make_description(app), width_); }
  std::string make_option(const CLI::Option* option, bool is_positional) const override {
    return entry(make_option_name(option, is_positional) + make_option_opts(option), make_option_desc(option));
  }
  std::string make_subcommand(const CLI::App* command) const override { return entry(command->get_display_name(true), command->get_description()); }

  // Lines that begin with spaces are commands, which stay ones when they are copied.
  std::string make_footer(const CLI::App* app) const override {
    std::istringstream lines(CLI::Formatter::make_footer(app));
    std::string text;
    for (std::string line; std::getline(lines, line);) {
      std::string cut = wrapped(line, line.starts_with(' ') ? width_ - 2 : width_, line.starts_with(' ') ? 6 : 0);
      if (line.starts_with(' '))
        for (std::size_t at = cut.find('\n'); at != std::string::npos; at = cut.find('\n', at + 3)) cut.insert(at, " \\");
      text += cut + "\n";
    }
    return text;
  }

 private:
  std::string entry(const std::string& name, const std::string& description) const {
    const std::size_t column = get_column_width();
    std::string text = wrapped("  " + name, width_, 6);
    if (description.empty()) return text + "\n";
    const std::size_t used = display_width(text.substr(text.rfind('\n') + 1));  // npos + 1 is 0
    text += used < column ? std::string(column - used, ' ') : "\n" + std::string(column, ' ');
    return text + wrapped(description, width_ - column, 0, "\n" + std::string(column, ' ')) + "\n";
  }

  std::size_t width_;
};

namespace detail {

// "a, b or c"
inline std::string one_of(const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) text += (i == 0 ? "" : i + 1 < words.size() ? ", " : " or ") + words[i];
  return text;
}

// What an option takes, from the type and the checks that CLI11 knows of it: "TEXT:{linear,cosine}", "INT:POSITIVE", "N:INT in [1 - 65536]".
inline std::string expectation(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  if (const std::size_t open = type.find('{'), close = type.find('}'); open != std::string::npos && close != std::string::npos) {
    std::vector<std::string> words;
    std::istringstream list(type.substr(open + 1, close - open - 1));
    for (std::string word; std::getline(list, word, ',');)
      if (!word.empty()) words.push_back(word);
    return one_of(words);
  }
  const bool is_whole = type.find("INT") != std::string::npos;
  if (!is_whole && type.find("FLOAT") == std::string::npos) return option.get_description();
  std::string text = is_whole ? "a whole number" : "a number";
  if (const std::size_t range = type.find(" in ["), to = type.find(" - ", std::min(range, type.size()));
      range != std::string::npos && to != std::string::npos) {
    text += " from " + type.substr(range + 5, to - range - 5) + " to " + type.substr(to + 3, type.find(']', to) - to - 3);
  } else if (type.find("NONNEGATIVE") != std::string::npos || type.starts_with("UINT")) {
    text += ", 0 or more";
  } else if (type.find("POSITIVE") != std::string::npos) {
    text += " above 0";
  }
  return text + (option.get_delimiter() != '\0' ? ", or several with commas between them" : "");
}

}  // namespace detail

// What is wrong with the command line.
inline std::string usage_error(CLI::App& app, const CLI::ParseError& error) {
  const std::vector<CLI::App*> parsed = app.get_subcommands();
  if (parsed.empty()) {
    std::vector<std::string> names;
    for (const CLI::App* const command : app.get_subcommands({})) names.push_back(command->get_name());
    return Error("deltatune", "needs a command", {.expected = detail::one_of(names), .remedy = "'deltatune --help' explains them"}).what();
  }
  const std::string said = error.what(), command = parsed.front()->get_name();
  const std::string help = "'deltatune " + command + " --help' lists all options";
  // The option that it is about, and another one that it names.
  std::vector<std::pair<std::size_t, const CLI::Option*>> named;
  for (const CLI::Option* const option : parsed.front()->get_options()) {
    const std::string name = option->get_name();
    for (std::size_t at = said.find(name); at != std::string::npos; at = said.find(name, at + 1)) {
      const std::size_t end = at + name.size();
      if (end < said.size() && said[end] != ' ' && said[end] != ':') continue;  // a longer name
      named.emplace_back(at, option);
      break;
    }
  }
  std::sort(named.begin(), named.end());
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr || named.empty()) {
    const std::size_t colon = said.find(": ");
    if (colon == std::string::npos) return Error(command, said, {.remedy = help}).what();
    return Error(command, "\"" + said.substr(colon + 2) + "\" belongs to no option", {.remedy = "put quotes around a value with spaces; " + help}).what();
  }
  const CLI::Option& option = *named.front().second;
  const std::string name = option.get_name();
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr)
    return Error(command, name + " is missing", {.expected = option.get_description(), .remedy = help}).what();
  if (dynamic_cast<const CLI::ExcludesError*>(&error) != nullptr && named.size() > 1)
    return Error(name, "cannot stand beside " + named[1].second->get_name(), {.remedy = "leave out one of the two; " + help}).what();
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
    if (said.find("At Most") != std::string::npos)
      return Error(name, "is given " + std::to_string(option.results().size()) + " times", {.expected = "one value", .remedy = help}).what();
    return Error(name, "has no value", {.expected = detail::expectation(option), .remedy = help}).what();
  }
  std::string got;
  for (const std::string& value : option.results()) got += (got.empty() ? "\"" : ", \"") + value + "\"";
  return Error(name, "cannot have this value", {.expected = detail::expectation(option), .got = got, .remedy = help}).what();
}

}  // namespace deltatune::cli
