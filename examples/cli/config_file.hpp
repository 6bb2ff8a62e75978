// --config FILE: the options of a command from a YAML or JSON file, under their names on the command line ("learning-rate", or "learning_rate").
#pragma once

#include <set>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace deltatune::cli {

// The arguments (a command first) with those that the file of --config has in front of the command's own, which take precedence; unchanged without
// --config. Throws Error for a file that cannot be read, is of another command or version, or names an option twice or one that the command does not have.
std::vector<std::string> with_config(CLI::App& app, std::vector<std::string> arguments);

// The options that a command was given, but for those left out, as such a file.
std::string config_text(const CLI::App& command, const std::set<std::string>& left_out);

}  // namespace deltatune::cli
