// deltatune merge: a model with its adapter written into the weights, as a folder that needs no adapter any more.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "commands.hpp"
#include "cpu_model.hpp"
#include "deltatune/io/hf_export.hpp"
#include "report.hpp"

namespace deltatune::cli {

namespace {

struct MergeOptions {
  std::string model, out;
  std::vector<std::filesystem::path> adapters;
};

template <class Model>
void merge(const MergeOptions& options) {
  Context ctx;
  LoadedModel<Model> loaded = load_model<Model>(ctx, options.model, options.adapters);
  for (auto& adapter : loaded.adapters)
    if (adapter.attachment.has_deltas()) adapter.attachment.merge(ctx);
  const Index classes = loaded.model->classes();
  const Output output = output_of(options.model, options.adapters, classes);  // of the adapter's output layer, which may be for another task than the model's
  save_hf_checkpoint(ctx, options.out, *loaded.model, options.model, loaded.labels, output == output_of(options.model, {}, classes) ? "" : problem_type_of(output));
  std::cout << "model of " << grouped(base_parameter_count(*loaded.model)) << " parameters written to " << options.out << "\n";
}

void run(const MergeOptions& options) {
  if (std::filesystem::exists(std::filesystem::path(options.out) / "adapter_config.json"))
    throw Error(options.out, "is the folder of an adapter", {.remedy = "write the merged model to another one"});
  family_in(options.model) == "gpt2" ? merge<Gpt2<X>>(options) : merge<Bert<X>>(options);
}

}  // namespace

void add_merge(CLI::App& app) {
  const auto options = std::make_shared<MergeOptions>();
  CLI::App* const command = app.add_subcommand("merge", "Write model and adapter as one model folder, for Hugging Face Transformers or deltatune, where the method can be merged exactly");
  command->add_option("--model", options->model, "Hugging Face folder of the model")->required()->type_name("DIR");
  command->add_option("--adapter", options->adapters, "Folder of the adapter; several times for several")->required()->type_name("DIR");
  command->add_option("--out", options->out, "Folder to write: config.json, model.safetensors in float32, the tokenizer's files")->required()->type_name("DIR");
  command->footer("Example:\n  deltatune merge --model minilm --adapter runs/tweets --out minilm-tweets");
  command->callback([options] { run(*options); });
}

}  // namespace deltatune::cli
