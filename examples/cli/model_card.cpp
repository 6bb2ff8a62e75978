#include "model_card.hpp"

#include <algorithm>
#include <string_view>

#include "deltatune/io/json_config.hpp"
#include "deltatune/io/mapped_file.hpp"
#include "report.hpp"

namespace deltatune::cli {

namespace fs = std::filesystem;

namespace {

constexpr const char* kMark = "<!-- written by deltatune train -->";

// "owner/name" or "name", as the hub has it; a path of this machine is none.
bool is_hub_name(const std::string& name) {
  const auto is_usual = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' || c == '.'; };
  const std::size_t slash = name.find('/');
  const std::string owner = slash == std::string::npos ? "" : name.substr(0, slash), own = slash == std::string::npos ? name : name.substr(slash + 1);
  const auto is_part = [&](const std::string& part) { return !part.empty() && part.front() != '.' && std::all_of(part.begin(), part.end(), is_usual); };
  return is_part(own) && (slash == std::string::npos || is_part(owner));
}

enum class Kind { kPeft, kAdapterHub, kOwn, kSeveral, kModel };

// Who else reads the result.
Kind kind_of(const fs::path& folder) {
  if (fs::exists(folder / "adapters.json")) return Kind::kSeveral;
  if (!fs::exists(folder / "adapter_config.json")) return Kind::kModel;
  const JsonConfig config = JsonConfig::open(folder / "adapter_config.json");
  const std::string type = config.has("peft_type") ? config.get<std::string>("peft_type") : "";
  if (type.empty()) return Kind::kAdapterHub;
  return type.starts_with("DELTATUNE_") ? Kind::kOwn : Kind::kPeft;
}

// A double-quoted scalar of YAML, which JSON's strings are, too.
std::string quoted(const std::string& text) { return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace); }

struct Task {
  std::string pipeline, python_class, command, learnt;
};

Task task_of_record(const std::string& task) {
  if (task == "classify") return {"text-classification", "AutoModelForSequenceClassification", "predict", "to classify texts"};
  if (task == "regression") return {"text-classification", "AutoModelForSequenceClassification", "predict", "to give texts a number"};
  if (task == "chat") return {"text-generation", "AutoModelForCausalLM", "chat", "to answer in conversations (the loss is of the assistant's messages)"};
  if (task == "seq2seq") return {"text2text-generation", "AutoModelForSeq2SeqLM", "generate", "to write targets from source texts"};
  return {"text-generation", "AutoModelForCausalLM", "generate", "as a language model"};
}

// "texts of at most 128 tokens"
std::string lengths(const nlohmann::json& record) {
  const auto tokens = [&record](const char* key) { return counted(record.at(key).get<Index>(), "token"); };
  if (!record.contains("task_prefix")) return "texts of at most " + tokens("max_length");
  const std::string prefix = record.at("task_prefix");
  const auto in_language = [&record](const char* key) {
    const std::string code = record.value(key, "");
    return code.empty() ? "" : " in `" + code + "`";
  };
  return "sources" + in_language("source_language") + " of at most " + tokens("max_length") + (prefix.empty() ? "" : " that begin with `" + prefix + "`") +
         " and targets" + in_language("target_language") + " of at most " + tokens("max_target_length");
}

std::string front_matter(Kind kind, const std::string& name, const nlohmann::json& record, const Task& task,
                         const std::vector<std::pair<std::string, double>>& metrics) {
  const std::string base = record.at("model"), method = record.at("method"), data = fs::path(record.at("data").get<std::string>()).filename().string();
  std::string text = "---\n";
  if (is_hub_name(base)) text += "base_model: " + quoted(base) + "\n";
  text += std::string("library_name: ") +
          (kind == Kind::kPeft         ? "peft"
           : kind == Kind::kModel      ? "transformers"
           : kind == Kind::kAdapterHub ? "adapters"
                                       : "deltatune") +
          "\n";
  text += "pipeline_tag: " + task.pipeline + "\ntags:\n";
  for (std::size_t begin = 0; begin <= method.size();) {
    const std::size_t end = std::min(method.find('+', begin), method.size());
    text += "- " + quoted(method.substr(begin, end - begin)) + "\n";
    begin = end + 1;
  }
  text += "- transformers\n- deltatune\n";
  if (metrics.empty()) return text + "---\n";
  text += "model-index:\n- name: " + quoted(name) + "\n  results:\n  - task:\n      type: " + task.pipeline + "\n    dataset:\n      name: " + quoted(data) +
          "\n      type: " + quoted(data) + "\n    metrics:\n";
  for (const auto& [metric, value] : metrics) text += "    - type: " + metric + "\n      value: " + formatted("%.6g", value) + "\n";
  return text + "---\n";
}

// For Python, and for the program.
std::string how_to_load(Kind kind, const std::string& name, const std::string& base, const Task& task) {
  const std::string own = quoted(name), model = quoted(base);
  std::string text = "## How to load it\n\n";
  if (kind == Kind::kPeft)
    text += "```python\nfrom peft import PeftModel\nfrom transformers import AutoTokenizer, " + task.python_class + "\n\nmodel = " + task.python_class +
            ".from_pretrained(" + model + ")\nmodel = PeftModel.from_pretrained(model, " + own + ")\ntokenizer = AutoTokenizer.from_pretrained(" + own +
            ")\n```\n\n";
  if (kind == Kind::kModel)
    text += "```python\nfrom transformers import AutoTokenizer, " + task.python_class + "\n\nmodel = " + task.python_class + ".from_pretrained(" + own +
            ")\ntokenizer = AutoTokenizer.from_pretrained(" + own + ")\n```\n\n";
  if (kind == Kind::kAdapterHub)
    text += "```python\nimport adapters\nfrom transformers import " + task.python_class + "\n\nmodel = " + task.python_class + ".from_pretrained(" + model +
            ")\nadapters.init(model)\nmodel.load_adapter(" + own + ", set_active=True)\n```\n\n";
  const std::string input = task.command == "predict" ? " --data texts.csv" : task.command == "generate" ? " --prompt \"...\"" : "";
  return text + "```sh\ndeltatune " + task.command + " --model " + (kind == Kind::kModel ? name : base + " --adapter " + name) + input + "\n```\n";
}

}  // namespace

bool is_model_card(const fs::path& file) { return fs::is_regular_file(file) && MappedFile(file).text().find(kMark) != std::string_view::npos; }

std::string model_card(const fs::path& folder, const std::string& name, const nlohmann::json& record,
                       const std::vector<std::pair<std::string, double>>& metrics) {
  const Kind kind = kind_of(folder);
  const Task task = task_of_record(record.at("task"));
  const std::string base = record.at("model"), data = fs::path(record.at("data").get<std::string>()).filename().string();
  const auto number = [&record](const char* key) { return formatted("%g", record.at(key).get<double>()); };
  std::string text = front_matter(kind, name, record, task, metrics) + kMark + "\n\n# " + name + "\n\n";
  text += (kind == Kind::kModel ? "A model trained from `" : "An adapter for `") + base + "`, trained with `" + record.at("method").get<std::string>() + "` " +
          task.learnt + ", on " + counted(record.at("examples").get<Index>(), "example") + " of `" + data +
          "`: " + counted(record.at("last_step").get<Index>(), "step") + " of " +
          std::to_string(record.at("batch_size").get<Index>() * record.at("accumulation").get<Index>()) + " with AdamW, learning rate " +
          number("learning_rate") + " (" + record.at("schedule").get<std::string>() + "), " + lengths(record) + ", seed " +
          std::to_string(record.at("seed").get<std::uint64_t>()) + ". All settings are in `run.json`.\n\n";
  if (!metrics.empty()) {
    text += "| metric | value |\n|---|---|\n";
    for (const auto& [metric, value] : metrics) text += "| " + metric + " | " + formatted("%.6g", value) + " |\n";
    text += std::string("\n") +
            (record.contains("eval_loss")
                 ? "Of the evaluation's best step, " + std::to_string(record.at("best_step").get<Index>()) + ", on texts held out or given for it."
                 : "Of the last steps of training; nothing was held out.") +
            "\n\n";
  }
  text += how_to_load(kind, name, base, task);
  return text + "\nWritten by deltatune " + record.at("version").get<std::string>() + ".\n";
}

}  // namespace deltatune::cli
