// deltatune merge: a model with its adapter written into the weights, as a folder that needs no adapter any more.
#include <CLI/CLI.hpp>
#include <iostream>
#include <map>
#include <memory>
#include <vector>

#include "chat_data.hpp"
#include "commands.hpp"
#include "cpu_model.hpp"
#include "deltatune/io/hf_export.hpp"
#include "deltatune/io/staged_folder.hpp"
#include "report.hpp"
#include "run_folder.hpp"
#include "run_record.hpp"

namespace deltatune::cli {

namespace {

struct MergeOptions {
  std::string model, out;
  std::vector<std::filesystem::path> adapters;
  std::string dtype = "auto";
  std::uint64_t max_shard_bytes = 5'000'000'000;
  bool overwrite = false;
};

const std::map<std::string, SavedDtype>& dtypes() {
  static const std::map<std::string, SavedDtype> all{
      {"auto", SavedDtype::as_source}, {"float32", SavedDtype::float32}, {"float16", SavedDtype::float16}, {"bfloat16", SavedDtype::bfloat16}};
  return all;
}

void merge(const MergeOptions& options) {
  Context ctx;
  LoadedModel<Transformer<X>> loaded = load_model<Transformer<X>>(ctx, options.model, options.adapters);
  merge_adapters(ctx, loaded);
  StagedFolder staged(options.out, Replaces::any_kind);
  const Index classes = loaded.model->num_labels();
  const Output output = output_of(options.model, options.adapters, classes);  // of the adapter's output layer, which may be for another task than the model's
  const std::string problem_type = output == output_of(options.model, {}, classes) ? "" : problem_type_of(output);
  save_hf_checkpoint(ctx, staged.path(), *loaded.model, options.model,
                     HfExport{loaded.labels, problem_type, dtypes().at(options.dtype), static_cast<Index>(options.max_shard_bytes)});
  if (!options.adapters.empty()) copy_chat_template(options.adapters.front(), staged.path());
  write_text_file(staged.path() / kRunRecord, record_of_adapters("merge", options.model, options.adapters).dump(2) + "\n");
  replace_run_files(staged, options.out);
  staged.commit();
  std::cout << "model of " << counted(base_parameter_count(*loaded.model), "parameter") << " written to " << options.out << "\n";
}

void run(const MergeOptions& options) {
  refuse_own_folder(options.out, options.model, "the model");
  for (const std::filesystem::path& adapter : adapter_folders(options.adapters)) refuse_own_folder(options.out, adapter, "the adapter");
  for (const std::filesystem::path& adapter : options.adapters) refuse_own_folder(options.out, adapter, "the adapter");
  check_out(options.out, options.overwrite, true);
  merge(options);
}

}  // namespace

void add_merge(CLI::App& app) {
  const auto options = std::make_shared<MergeOptions>();
  CLI::App* const command = app.add_subcommand(
      "merge", "Write model and adapter as one model folder, for Hugging Face Transformers or deltatune, where the method can be merged exactly");
  command->add_option("--model", options->model, "Hugging Face folder of the model")->required()->type_name("DIR");
  command->add_option("--adapter", options->adapters, "Folder of the adapter; several times for several")->required()->type_name("DIR");
  command->add_option("--out", options->out, "Folder to write: config.json, model.safetensors, the tokenizer's files")->required()->type_name("DIR");
  command->add_option("--dtype", options->dtype, "Type of the written weights: auto, that of the model's files, float32, float16 or bfloat16")
      ->check(CLI::IsMember(dtypes()))
      ->capture_default_str();
  command
      ->add_option("--max-shard-size", options->max_shard_bytes,
                   "Bytes of the weights in one file, with KB, MB, GB (powers of 1000), KiB, MiB or GiB (of 1024); more are spread over several")
      ->transform(CLI::AsSizeValue(true).description(""))
      ->check(CLI::PositiveNumber.description(""))
      ->default_str("5GB")
      ->type_name("SIZE");
  command->add_flag("--overwrite", options->overwrite, "Replace the result that --out holds, or write beside what else it holds");
  command->footer("Example:\n  deltatune merge --model minilm --adapter runs/tweets --out minilm-tweets");
  command->callback([options] { run(*options); });
}

}  // namespace deltatune::cli
