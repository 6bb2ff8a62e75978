// deltatune inspect: what is in a model's folder, where a delta may go, what an adapter changes.
#include <CLI/CLI.hpp>
#include <cmath>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "commands.hpp"
#include "cpu_model.hpp"
#include "report.hpp"

namespace deltatune::cli {

namespace {

using Json = nlohmann::ordered_json;

struct InspectOptions {
  std::string model, adapter;
  bool tensors = false, json = false;
};

const char* name_of(Role role) {
  switch (role) {
    case Role::weight: return "weight";
    case Role::bias: return "bias";
    case Role::norm_scale: return "norm scale";
    case Role::norm_shift: return "norm shift";
    case Role::embedding: return "embedding";
    case Role::delta: return "delta";
  }
  return "";
}

// Under a header of two columns, one row a member.
std::string listing(std::vector<std::string> header, const Json& object) {
  TextTable table(std::move(header), 2);
  for (const auto& [key, value] : object.items()) table.add({key, value.is_string() ? value.get<std::string>() : value.dump()});
  return table.text();
}

Json model_summary(LoadedModel<X>& loaded) {
  const BertConfig& config = loaded.model.config();
  Json summary{{"architecture", loaded.model.has_classifier() ? "BERT with a classifier" : "BERT encoder, no classifier"},
               {"parameters", base_parameter_count(loaded.model)},
               {"layers", config.layers},
               {"width", config.width},
               {"heads", config.heads},
               {"feed_forward_width", config.inner_width},
               {"vocabulary", config.vocab_size},
               {"positions", config.positions},
               {"token_types", config.types}};
  if (loaded.model.has_classifier()) summary["labels"] = loaded.labels;
  if (!loaded.model.load_report().left_out.empty()) summary["tensors_not_used"] = loaded.model.load_report().left_out;
  return summary;
}

Json adapter_summary(LoadedModel<X>& loaded) {
  Json summary{{"method", loaded.adapter->method}};
  if (loaded.adapter->peft) {
    const LoraPlan& plan = loaded.adapter->peft->plan;
    summary["rank"] = plan.lora.rank;
    summary["alpha"] = plan.lora.alpha;
    summary["dropout"] = plan.lora.dropout;
    summary["rank_stabilized"] = plan.lora.rank_stabilized;
    summary["sites"] = loaded.adapter->peft->attachment.entries().size();
    if (!loaded.adapter->peft->ignored.empty()) summary["tensors_not_used"] = loaded.adapter->peft->ignored;
  }
  const Index trained = trainable_count(loaded.model), all = parameter_count(loaded.model);
  summary["trainable_parameters"] = trained;
  summary["total_parameters"] = all;
  summary["trainable_percent"] = std::round(1e4 * static_cast<double>(trained) / static_cast<double>(all)) / 100.0;
  return summary;
}

// Places for weight deltas, with the LoRA that sits there.
Json sites(LoadedModel<X>& loaded) {
  std::map<std::string, LoraConfig> attached;
  if (loaded.adapter && loaded.adapter->peft)
    for (const auto& entry : loaded.adapter->peft->attachment.entries()) attached.emplace(entry.site->path, entry.delta->config());
  Json list = Json::array();
  loaded.model.visit_sites([&](LinearSite<X>& site) {
    Json entry{{"path", site.path}, {"shape", site.weight.shape()}};
    if (const auto lora = attached.find(site.path); lora != attached.end()) {
      entry["rank"] = lora->second.rank;
      entry["alpha"] = lora->second.alpha;
    }
    list.push_back(std::move(entry));
  });
  return list;
}

// Everything in memory, with the name and the type it has in its file.
Json tensors(LoadedModel<X>& loaded, const InspectOptions& options) {
  const HfCheckpoint checkpoint = HfCheckpoint::open(options.model);
  std::optional<SafeTensors> adapter;
  if (loaded.adapter) adapter = SafeTensors::open(std::filesystem::path(options.adapter) / "adapter_model.safetensors");
  const auto& names = loaded.model.load_report().names;
  Json list = Json::array();
  loaded.model.visit([&](const Parameter<X>& parameter) {
    std::string name = parameter.path(), dtype = "not in a file";
    if (const auto found = names.find(parameter.path()); found != names.end()) {
      name = found->second;
      dtype = to_string(checkpoint.tensors().at(name).dtype);
    }
    if (loaded.adapter && loaded.adapter->keys.contains(parameter.path())) {
      const std::string& key = loaded.adapter->keys.at(parameter.path());
      if (const TensorInfo* const tensor = adapter->find(key)) {
        name = key;
        dtype = to_string(tensor->dtype);
      }
    }
    list.push_back({{"name", name}, {"shape", parameter.shape()}, {"dtype", dtype}, {"role", name_of(parameter.role())}, {"trainable", parameter.trains()}});
  });
  return list;
}

std::string site_table(const Json& list) {
  TextTable table({"site that LoRA can target", "weight (out, in)", "LoRA"});
  for (const Json& site : list) {
    const bool has_lora = site.contains("rank");
    table.add({site["path"], to_string(site["shape"].get<Shape>()),
               has_lora ? "rank " + site["rank"].dump() + ", alpha " + formatted("%g", site["alpha"].get<double>()) : ""});
  }
  return table.text();
}

std::string tensor_table(const Json& list) {
  TextTable table({"tensor", "role", "trained", "type in file", "shape"}, 4);
  for (const Json& tensor : list)
    table.add({tensor["name"], tensor["role"], tensor["trainable"].get<bool>() ? "yes" : "", tensor["dtype"], to_string(tensor["shape"].get<Shape>())});
  return table.text();
}

void run(const InspectOptions& options) {
  Context ctx;
  LoadedModel<X> loaded = load_model<X>(ctx, options.model, options.adapter);
  Json all{{"model", model_summary(loaded)}};
  std::cout << listing({"model", options.model}, all["model"]);
  if (loaded.adapter) {
    all["adapter"] = adapter_summary(loaded);
    std::cout << "\n" << listing({"adapter", options.adapter}, all["adapter"]);
  }
  all["sites"] = sites(loaded);
  std::cout << "\n" << site_table(all["sites"]);
  if (options.tensors) {
    all["tensors"] = tensors(loaded, options);
    std::cout << "\n" << tensor_table(all["tensors"]);
  }
  if (options.json) std::cout << all.dump() << "\n";
}

}  // namespace

void add_inspect(CLI::App& app) {
  const auto options = std::make_shared<InspectOptions>();
  CLI::App* const command = app.add_subcommand("inspect", "What a model and an adapter are: sizes, layers that LoRA can target, tensors");
  command->add_option("--model", options->model, "Hugging Face folder of the model")->required()->type_name("DIR");
  command->add_option("--adapter", options->adapter, "Folder of an adapter for it")->type_name("DIR");
  command->add_flag("--tensors", options->tensors, "List all tensors: name in the file, role, whether the adapter trains it, type, shape");
  command->add_flag("--json", options->json, "Print all of it once more as one JSON object, on the last line");
  command->footer("Example:\n  deltatune inspect --model minilm --adapter runs/tweets --tensors");
  command->callback([options] { run(*options); });
}

}  // namespace deltatune::cli
