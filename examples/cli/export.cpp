// deltatune export: an adapter as a file of another program.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "commands.hpp"
#include "deltatune/attach/adapter_folder.hpp"
#include "deltatune/attach/gguf_lora.hpp"
#include "report.hpp"
#include "run_folder.hpp"

namespace deltatune::cli {

namespace {

struct ExportOptions {
  std::string model, adapter, out;
  std::string to = "gguf", type = "f32";
};

void run(const ExportOptions& options) {
  deltatune::detail::check_adapter_folder(options.adapter);
  refuse_own_file(options.out, options.model, "the model");
  refuse_own_file(options.out, options.adapter, "the adapter");
  const GgufLora written = export_gguf_lora(options.adapter, options.model, options.out, options.type == "f16" ? DType::F16 : DType::F32);
  for (const std::string& note : written.notes) std::cerr << "note: " << note << "\n";
  std::cout << "LoRA of " << counted(written.pairs, "weight") << " for " << written.architecture << " (alpha " << formatted("%g", written.alpha);
  if (written.rescaled > 0) std::cout << ", " << grouped(written.rescaled) << " with another scaling, in lora_b";
  std::cout << ") written to " << options.out << "\n";
}

}  // namespace

void add_export(CLI::App& app) {
  const auto options = std::make_shared<ExportOptions>();
  CLI::App* const command = app.add_subcommand("export", "Write a LoRA adapter as a GGUF file, which llama.cpp loads beside a GGUF of the base model");
  command->add_option("--adapter", options->adapter, "Folder of the adapter: a LoRA in PEFT's format")->required()->type_name("DIR");
  command->add_option("--model", options->model, "Hugging Face folder of the base model, of which config.json is enough")->required()->type_name("DIR");
  command->add_option("--to", options->to, "Format: gguf")->check(CLI::IsMember({"gguf"}))->capture_default_str();
  command->add_option("--type", options->type, "Type of the written weights: f32 or f16")->check(CLI::IsMember({"f32", "f16"}))->capture_default_str();
  command->add_option("--out", options->out, "File to write")->required()->type_name("FILE");
  command->footer("Example:\n  deltatune export --model llama --adapter runs/lora --to gguf --out lora.gguf");
  command->callback([options] { run(*options); });
}

}  // namespace deltatune::cli
