// deltatune generate: a language model goes on with a text.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "commands.hpp"
#include "device_options.hpp"
#include "text_data.hpp"

namespace deltatune::cli {

namespace {

struct GenerateOptions {
  std::string model, prompt;
  std::vector<std::filesystem::path> adapters;
  GenerationConfig config;
  bool to_the_end = false;
  DeviceOptions device;
};

void run(GenerateOptions options) {
  const std::unique_ptr<Device> device = open_device(options.device);
  const std::unique_ptr<DeviceModel> model = device->load(options.model, options.adapters);
  if (!model->info().is_language_model)
    throw Error(options.model, "has no language model head", {.remedy = "use the folder of a language model, such as GPT-2"});
  const Tokenizer tokenizer = tokenizer_of(options.model);
  const std::vector<std::int32_t> prompt = tokenizer.encode(options.prompt, 0);
  if (prompt.empty()) throw Error("--prompt", "holds no tokens", {.remedy = "begin the text"});
  options.config.stops_at_end = !options.to_the_end;
  std::cout << options.prompt << tokenizer.decode(model->generate(prompt, options.config, {})) << "\n";
}

}  // namespace

void add_generate(CLI::App& app) {
  const auto options = std::make_shared<GenerateOptions>();
  CLI::App* const command = app.add_subcommand("generate", "A language model goes on with a text");
  command->add_option("--model", options->model, "Hugging Face folder of the model")->required()->type_name("DIR");
  command->add_option("--adapter", options->adapters, "Folder of an adapter for it; several times for several")->type_name("DIR");
  command->add_option("--prompt", options->prompt, "The text to go on with")->required()->type_name("TEXT");
  GenerationConfig& c = options->config;
  command->add_option("--max-new-tokens", c.max_new_tokens, "Tokens at most")->check(CLI::PositiveNumber)->capture_default_str();
  command->add_option("--temperature", c.temperature, "0: always the likeliest token")->check(CLI::NonNegativeNumber)->capture_default_str();
  command->add_option("--top-k", c.top_k, "Draw from so many likeliest tokens; 0: from all")->check(CLI::NonNegativeNumber)->capture_default_str();
  command->add_option("--top-p", c.top_p, "Draw from the likeliest tokens that have this probability together")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--seed", c.seed, "Of the draws")->capture_default_str();
  command->add_flag("--ignore-end", options->to_the_end, "Go on behind an end-of-text token");
  add_device_options(*command, options->device);
  command->footer("Example:\n  deltatune generate --model gpt2 --adapter runs/poems --prompt \"The sea\" --temperature 0.8 --top-p 0.95");
  command->callback([options] { run(*options); });
}

}  // namespace deltatune::cli
