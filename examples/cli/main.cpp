// deltatune: fine-tune, evaluate and use Transformers from the shell.
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <iostream>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "commands.hpp"
#include "config_file.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/version.hpp"
#include "interrupts.hpp"
#include "suggestion.hpp"
#include "usage.hpp"
#include "wait_policy.hpp"

namespace {

// Nobody shall take a cut-off output for the whole: `code`, or 1 where standard output could not be written.
int finished(int code) {
  std::cout.flush();
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0 && std::cout) return code;
  std::cerr << "error: standard output: cannot be written (is the disk full?)\n";
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace deltatune::cli;
  if (argc > 1 && argv[1][0] != '-') set_wait_policy(argv);  // for --help there is nothing to wait for
  // glibc raises this bound when large memory is given back; oneDNN's temporaries then come from the heap and lie between what it keeps for each shape of a
  // product, and a run over texts of many lengths grows by half a megabyte per step.
  mallopt(M_MMAP_THRESHOLD, 128 << 10);
  CLI::App app{
      "deltatune: parameter-efficient fine-tuning of Transformers.\n"
      "Takes a Hugging Face model folder, trains a small part of it or a small adapter, and writes folders that Hugging Face reads."};
  if (argc > 0) app.name(argv[0]);
  app.formatter(std::make_shared<HelpFormatter>(static_cast<std::size_t>(terminal_width())));
  app.require_subcommand(1);
  app.set_version_flag("--version", "deltatune " DELTATUNE_VERSION_STRING);
  app.footer("'deltatune COMMAND --help' explains a command and ends with an example.");
  add_train(app);
  add_evaluate(app);
  add_predict(app);
  add_forward(app);
  add_generate(app);
  add_chat(app);
  add_merge(app);
  add_convert(app);
  add_export(app);
  add_inspect(app);
  add_compare(app);
  std::string config;  // read by with_config()
  for (CLI::App* const command : app.get_subcommands({}))
    command->add_option("--config", config, "Options from a YAML or JSON file, by their names without the dashes; those of the command line take precedence")
        ->type_name("FILE");
  try {
    std::vector<std::string> arguments = with_config(app, {argv + 1, argv + argc});
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
    app.parse(std::move(arguments));                   // runs the command
  } catch (const CLI::ParseError& error) {
    if (const std::string mistake = deltatune::cli::unknown_argument(app, {argv + 1, argv + argc}); error.get_exit_code() != 0 && !mistake.empty()) {
      std::cerr << "error: " << mistake << "\n";
      return 1;
    }
    if (error.get_exit_code() == 0) return finished(app.exit(error));  // --help, --version
    std::cerr << "error: " << usage_error(app, error) << "\n";
    return 1;
  } catch (const Interrupted& interrupted) {
    return 128 + interrupted.signal;
  } catch (const std::bad_alloc&) {
    std::cerr << "error: memory: there is not enough for this (take a smaller batch, shorter sequences or smaller files)\n";
    return 1;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
  return finished(0);
}
