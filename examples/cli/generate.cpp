// deltatune generate: a language model goes on with texts.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "commands.hpp"
#include "deltatune/io/atomic_file.hpp"
#include "deltatune/io/mapped_file.hpp"
#include "deltatune/io/table.hpp"
#include "deltatune/text/text_stream.hpp"
#include "device_options.hpp"
#include "generation_options.hpp"
#include "report.hpp"
#include "run_folder.hpp"
#include "seq2seq_task.hpp"
#include "text_data.hpp"

namespace deltatune::cli {

namespace {

struct GenerateOptions {
  std::string model;
  std::vector<std::string> prompts;
  std::filesystem::path prompt_file;
  std::vector<std::filesystem::path> adapters;
  GenerationOptions generation;
  std::optional<std::string> prefix;
  PairLanguages languages;
  bool to_the_end = false, skips_special = false, json = false, overwrite = false;
  std::string out;
  DeviceOptions device;
};

// A text to go on with, and where it comes from, for messages.
struct Prompt {
  std::string text, place;
};

// One per line, or the field "prompt" of each record of a JSON file.
void read_prompts(const std::filesystem::path& path, std::vector<Prompt>& prompts_io) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (extension == ".jsonl" || extension == ".ndjson" || extension == ".json") {
    const Table table = read_table(path);
    const std::size_t column = static_cast<std::size_t>(table.column("prompt"));
    print(table_notes(table));
    for (std::size_t row = 0; row < table.rows.size(); ++row) prompts_io.push_back({table.rows[row][column], table.place(row)});
    return;
  }
  const MappedFile file(path);
  std::string_view text = file.text();
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  Index line = 0;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    std::string_view prompt = text.substr(0, end);
    if (prompt.ends_with('\r')) prompt.remove_suffix(1);
    prompts_io.push_back({std::string(prompt), path.string() + ": line " + std::to_string(++line)});
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
}

void check_out_file(const GenerateOptions& options) {
  const std::filesystem::path out = options.out;
  if (!options.prompt_file.empty()) refuse_own_file(out, options.prompt_file, "--prompts");
  refuse_own_file(out, options.model, "the model");
  for (const std::filesystem::path& adapter : options.adapters) refuse_own_file(out, adapter, "the adapter");
  if (!options.overwrite && std::filesystem::is_regular_file(out))
    throw Error(out.string(), "is there already", {.remedy = "choose another --out, or replace it with --overwrite"});
  const AtomicFile can_be_made(out);  // said now and not when all is computed
}

const char* name_of(Continuation::End end) {
  return end == Continuation::End::length ? "length" : end == Continuation::End::end_token ? "end_token" : "stop_string";
}

void run(GenerateOptions options) {
  std::vector<Prompt> prompts;
  for (const std::string& text : options.prompts) prompts.push_back({text, "--prompt"});
  if (!options.prompt_file.empty()) read_prompts(options.prompt_file, prompts);
  if (prompts.empty()) {
    if (!options.prompt_file.empty()) throw Error(options.prompt_file.string(), "holds no prompts", {.remedy = "write one per line"});
    throw Error("generate", "has no text to go on with", {.remedy = "give --prompt or --prompts"});
  }
  if (!options.out.empty()) check_out_file(options);
  GenerationConfig config = generation_settings(options.generation, options.model);
  config.stops_at_end = !options.to_the_end;
  const std::unique_ptr<Device> device = open_device(options.device);
  const std::unique_ptr<DeviceModel> model = device->load(options.model, options.adapters);
  if (!model->info().is_language_model)
    throw Error(options.model, "has no language model head", {.remedy = "use the folder of a language model, such as GPT-2"});
  const bool reads_source = model->info().is_encoder_decoder;
  if (options.prefix && !reads_source) throw Error("--task-prefix", "is for encoder-decoders", {.remedy = "leave it out, or begin the prompts with it"});
  for (const auto& [option, code] : {std::pair("--source-language", options.languages.source), {"--target-language", options.languages.target}})
    if (!code.empty() && !reads_source) throw Error(option, "is for encoder-decoders", {.remedy = "leave it out"});
  const std::optional<TrainedPairs> trained = reads_source ? trained_pairs(options.model, options.adapters) : std::nullopt;
  const std::string prefix = prefix_of(options.prefix, trained);
  const PairLanguages languages = languages_of(options.languages, trained);
  const Tokenizer tokenizer = source_tokenizer(tokenizer_of(options.model), languages);
  write_in_language(tokenizer, languages, config);
  PackedBatch batch;
  std::vector<StopStrings> stops;
  std::vector<TextStream> streams;
  for (const Prompt& prompt : prompts) {
    const std::vector<std::int32_t> ids = tokenizer.encode(prefix + prompt.text, 0);
    if (ids.empty()) throw Error(prompt.place, "holds no tokens", {.remedy = "begin the text"});
    batch.add(ids);
    // What is written goes on with the prompt, or is a text of its own.
    const std::vector<std::int32_t> in_front = reads_source ? std::vector<std::int32_t>() : ids;
    stops.emplace_back(tokenizer, options.generation.stop_strings, in_front);
    streams.emplace_back(tokenizer, options.skips_special).push_given(in_front);
  }

  const bool as_text = prompts.size() == 1 && !options.json && options.out.empty();
  if (as_text && !reads_source) std::cout << prompts[0].text << std::flush;
  std::vector<std::string> texts(prompts.size());
  const std::vector<Continuation> continuations = model->generate(batch, config, [&](Index sequence, std::int32_t token) {
    const std::size_t b = static_cast<std::size_t>(sequence);
    const std::string piece = streams[b].push(token);
    if (as_text) std::cout << piece << std::flush;
    if (!as_text) texts[b] += piece;
    return !stops[b].push(token);
  });
  if (as_text) {
    std::cout << streams[0].finish() << "\n";
    return;
  }
  std::string lines;
  for (std::size_t b = 0; b < prompts.size(); ++b) {
    const Continuation& continuation = continuations[b];
    const nlohmann::ordered_json line{
        {"prompt", prompts[b].text}, {"text", texts[b] + streams[b].finish()}, {"tokens", continuation.tokens.size()}, {"end", name_of(continuation.end)}};
    lines += line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }
  if (options.out.empty()) {
    std::cout << lines;
  } else {
    write_text_file(options.out, lines);
    std::cerr << counted(batch.count(), "text") << " written to " << options.out << "\n";
  }
}

}  // namespace

void add_generate(CLI::App& app) {
  const auto options = std::make_shared<GenerateOptions>();
  CLI::App* const command = app.add_subcommand("generate", "A language model goes on with texts, or an encoder-decoder writes the targets of source texts");
  GenerateOptions& o = *options;
  command->add_option("--model", o.model, "Hugging Face folder of the model")->required()->type_name("DIR");
  command->add_option("--adapter", o.adapters, "Folder of an adapter for it; several times for several")->type_name("DIR");
  command->add_option("--prompt", o.prompts, "The text to go on with; several times for several")->allow_extra_args(false)->type_name("TEXT");
  command->add_option("--prompts", o.prompt_file, "Texts to go on with, one per line; or a .jsonl or .json file with \"prompt\" in each record")
      ->type_name("FILE");
  add_source_options(*command, o.prefix, o.languages, "as in training");
  add_generation_options(*command, o.generation, "text");
  command->add_flag("--ignore-end", o.to_the_end, "Go on behind an end-of-text token");
  command->add_flag("--skip-special-tokens", o.skips_special, "Leave special tokens, such as the end-of-text token, out of the texts");
  command->add_option("--batch-size", o.generation.config.max_sequences, "Texts at once; others wait")->check(CLI::PositiveNumber)->capture_default_str();
  command->add_flag("--json", o.json, "One JSON line per text, also where there is only one");
  command->add_option("--out", o.out, "Where the JSON lines go [the screen]")->type_name("FILE");
  command->add_flag("--overwrite", o.overwrite, "Replace the file that --out names");
  add_device_options(*command, o.device);
  command->footer(
      "Writes a single text as it comes, several as JSON lines in the order of the prompts: \"prompt\", \"text\" (what follows it, or is written from it), "
      "\"tokens\" (their number) "
      "and \"end\", which is length, end_token or stop_string.\n\n"
      "Examples:\n  deltatune generate --model gpt2 --adapter runs/poems --prompt \"The sea\" --temperature 0.8 --top-p 0.95\n"
      "  deltatune generate --model gpt2 --prompts questions.jsonl --stop \"Question:\" --out answers.jsonl\n"
      "  deltatune generate --model t5-small --adapter runs/news --prompts articles.txt --skip-special-tokens --out summaries.jsonl");
  command->callback([options] { run(*options); });
}

}  // namespace deltatune::cli
