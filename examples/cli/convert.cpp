// deltatune convert: adapters of any method that can be merged, or a model that was trained whole, as a plain LoRA.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <vector>

#include "chat_data.hpp"
#include "commands.hpp"
#include "cpu_model.hpp"
#include "deltatune/attach/as_lora.hpp"
#include "deltatune/io/staged_folder.hpp"
#include "report.hpp"
#include "run_folder.hpp"
#include "run_record.hpp"

namespace deltatune::cli {

namespace {

struct ConvertOptions {
  std::string model, out, to = "lora";
  std::vector<std::filesystem::path> adapters;
  Index rank = 0;
  std::uint64_t seed = 0;
  bool overwrite = false;
};

void run(const ConvertOptions& options) {
  refuse_own_folder(options.out, options.model, "the model");
  for (const std::filesystem::path& adapter : adapter_folders(options.adapters)) refuse_own_folder(options.out, adapter, "the adapter");
  check_out(options.out, options.overwrite, false);
  Context ctx;
  LoadedModel<Transformer<X>> changed = load_model<Transformer<X>>(ctx, options.model, options.adapters);
  merge_adapters(ctx, changed);
  Transformer<X> base = Transformer<X>::load(ctx, options.model, head_of(options.model, options.adapters));
  LoraApproximation<X> lora = approximate_by_lora(ctx, base, *changed.model, options.rank, options.seed);

  StagedFolder staged(options.out, Replaces::any_kind);
  save_adapter(ctx, staged.path(), base, lora.attached, options.model);
  copy_tokenizer(options.model, staged.path());
  for (const std::filesystem::path& adapter : options.adapters)
    if (std::filesystem::exists(adapter / "labels.json") && !std::filesystem::exists(staged.path() / "labels.json"))
      write_text_file(staged.path() / "labels.json", MappedFile(adapter / "labels.json").text());
  copy_chat_template(options.adapters.front(), staged.path());
  nlohmann::json record = record_of_adapters("convert", options.model, options.adapters);
  record.update({{"rank", options.rank}, {"seed", options.seed}});
  write_text_file(staged.path() / kRunRecord, record.dump(2) + "\n");
  replace_run_files(staged, options.out);
  staged.commit();

  TextTable table({"weight", "change", "left", "of the change"});
  for (const LoraFit& site : lora.sites) table.add({site.path, formatted("%.4g", site.change), formatted("%.2g", site.left), formatted("%.2e", site.share())});
  std::cout << table.text() << "\nLoRA of rank " << options.rank << " on " << counted(static_cast<Index>(lora.sites.size()), "weight") << " written to "
            << options.out << "; relative error " << formatted("%.2e", lora.share()) << " (Frobenius)\n";
}

}  // namespace

void add_convert(CLI::App& app) {
  const auto options = std::make_shared<ConvertOptions>();
  CLI::App* const command =
      app.add_subcommand("convert", "Write adapters of any method that can be merged as one plain LoRA in PEFT's format, and say what that loses");
  command->add_option("--model", options->model, "Hugging Face folder of the base model")->required()->type_name("DIR");
  command->add_option("--adapter", options->adapters, "Folder of the adapter; several times for several")->required()->type_name("DIR");
  command->add_option("--to", options->to, "Method: lora")->check(CLI::IsMember({"lora"}))->capture_default_str();
  command->add_option("--rank", options->rank, "Rank of the LoRA: exact where the changes have no larger one")->required()->check(CLI::PositiveNumber);
  command->add_option("--seed", options->seed, "Seed of the random sketches of the changes")->capture_default_str();
  command->add_option("--out", options->out, "Folder to write: adapter_config.json, adapter_model.safetensors, the tokenizer's files")
      ->required()
      ->type_name("DIR");
  command->add_flag("--overwrite", options->overwrite, "Replace the result that --out holds, or write beside what else it holds");
  command->footer("Example:\n  deltatune convert --model minilm --adapter runs/dora --to lora --rank 16 --out runs/dora-as-lora");
  command->callback([options] { run(*options); });
}

}  // namespace deltatune::cli
