// deltatune: fine-tune, evaluate and use Transformers from the shell.
#include <CLI/CLI.hpp>
#include <exception>
#include <iostream>

#include "commands.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/version.hpp"
#include "interrupts.hpp"

int main(int argc, char** argv) {
  using namespace deltatune::cli;
  CLI::App app{"deltatune: parameter-efficient fine-tuning of Transformers.\n"
               "Takes a Hugging Face model folder, trains a small part of it or a small adapter, and writes folders that Hugging Face reads."};
  app.require_subcommand(1);
  app.set_version_flag("--version", "deltatune " DELTATUNE_VERSION_STRING);
  app.footer("'deltatune COMMAND --help' explains a command and ends with an example.");
  add_train(app);
  add_evaluate(app);
  add_predict(app);
  add_forward(app);
  add_generate(app);
  add_merge(app);
  add_inspect(app);
  try {
    app.parse(argc, argv);  // runs the command
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 1;
  } catch (const Interrupted& interrupted) {
    return 128 + interrupted.signal;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
