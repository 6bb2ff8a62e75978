// The commands of the program. Each adds itself to the command line: its options, its help, and what it does.
#pragma once

namespace CLI {
class App;
}

namespace deltatune::cli {

void add_train(CLI::App& app);
void add_evaluate(CLI::App& app);
void add_predict(CLI::App& app);
void add_forward(CLI::App& app);
void add_generate(CLI::App& app);
void add_chat(CLI::App& app);
void add_merge(CLI::App& app);
void add_convert(CLI::App& app);
void add_export(CLI::App& app);
void add_inspect(CLI::App& app);
void add_compare(CLI::App& app);

}  // namespace deltatune::cli
