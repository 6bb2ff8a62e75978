// --config FILE: options from YAML or JSON, under those of the command line; and the file that repeats a run.
#include <catch2/catch.hpp>

#include "cli/program.hpp"
#include "deltatune/version.hpp"

using namespace deltatune;
using namespace deltatune::test;
using Catch::Contains;
using Json = nlohmann::json;

namespace {

struct ConfigPlace : TextPlace {
  ConfigPlace() : TextPlace(24) {}

  std::string file(const std::string& name, const std::string& text) const { return folder.file(name, text).string(); }

  // What the program says of a file with this text.
  std::string error(const std::string& text) const {
    const Outcome outcome = run_program({"train", "--config", file("bad.yaml", text)});
    CHECK(outcome.code == 1);
    return outcome.err;
  }
};

}  // namespace

TEST_CASE("options from a file, and the file that repeats the run", "[cli][config]") {
  const ConfigPlace place;
  const std::string common = "model: " + place.path("model") + "\ndata: " + place.path("data.csv") + "\n";
  const std::string yaml =
      place.file("run.yaml", "# a run\n" + common +
                                 "method: lora\nrank: 2\nlearning_rate: 1e-2  # as the peers write it\nsteps: 4\nbatch-size: 4\nmax-length: 16\n"
                                 "class-weights: [1, 2, 0.5]\nlabels: [poor, fine, neither]\njson: true\nrecompute: false\nthreads: 1\n");
  const Json once = last_json(checked({"train", "--config", yaml, "--out", place.path("once")}));
  CHECK(once.at("steps") == 4);
  const Json record = Json::parse(content_of(place.folder / "once/run.json"));
  CHECK(record.at("options").at("--learning-rate") == "1e-2");
  CHECK(record.at("class_weights") == Json{1.0, 2.0, 0.5});
  CHECK(record.at("labels") == Json{"poor", "fine", "neither"});
  CHECK_FALSE(record.at("options").contains("--recompute"));

  // What the run wrote, with another folder on the command line: the same bits.
  const std::string written = place.path("once/train.yaml");
  CHECK_THAT(content_of(written),
             Contains("command: train") && Contains("version: " DELTATUNE_VERSION_STRING) && Contains("rank: 2") && Contains("json: true"));
  checked({"train", "--config=" + written, "--out", place.path("again")});
  CHECK(content_of(place.folder / "again/adapter_model.safetensors") == content_of(place.folder / "once/adapter_model.safetensors"));
  CHECK(content_of(place.folder / "again/train.yaml") != content_of(written));  // --out

  // The command line goes before the file, and JSON is read as well.
  const Json options{{"model", place.path("model")}, {"data", place.path("data.csv")}, {"steps", 4}, {"batch-size", 4}, {"json", true}, {"method", "lora"}};
  const Json fewer = last_json(checked({"train", "--config", place.file("run.json", options.dump()), "--steps", "2", "--out", place.path("fewer")}));
  CHECK(fewer.at("steps") == 2);

  const Json evaluated = last_json(
      checked({"evaluate", "--config",
               place.file("e.yaml", common + "adapter: [" + place.path("once") + "]\ncommand: evaluate\nlabels: [poor, fine, neither]\njson: yes\n")}));
  CHECK(evaluated.at("examples") == 24);
}

TEST_CASE("a file of options that is wrong", "[cli][config]") {
  const ConfigPlace place;
  CHECK_THAT(place.error("model: m\nlearning-rat: 1\n"),
             Contains("bad.yaml: line 2: learning-rat: is no option of 'train'") && Contains("did you mean learning-rate?"));
  CHECK_THAT(place.error("lr: 1\n"), Contains("line 1: lr: is no option of 'train'") && Contains("did you mean learning-rate?"));
  CHECK_THAT(place.error("qqqqqq: 1\n"), Contains("'deltatune train --help' lists all"));
  CHECK_THAT(place.error("batch-size: 1\nbatch_size: 2\n"), Contains("line 2: batch_size: is given twice"));
  CHECK_THAT(place.error("command: evaluate\n"), Contains("line 1: command: is another command; expected train, got evaluate"));
  CHECK_THAT(place.error("version: 99.0.0\n"), Contains("is another version of deltatune") && Contains("got 99.0.0"));
  CHECK_THAT(place.error("model: {a: 1}\n"), Contains("line 1: model: has no value"));
  CHECK_THAT(place.error("model:\n"), Contains("line 1: model: has no value"));
  CHECK_THAT(place.error("json: maybe\n"), Contains("line 1: json: needs true or false; got maybe"));
  CHECK_THAT(place.error("- model\n"), Contains("bad.yaml: has no options"));
  CHECK_THAT(place.error("model: [a\n"), Contains("bad.yaml: line ") && Contains("is neither YAML nor JSON"));
  CHECK_THAT(place.error("steps: many\n"), Contains("--steps"));
  check_failure(run_program({"train", "--config", place.path("none.yaml")}), {"none.yaml: can't be read"});
  check_failure(run_program({"train", "--config"}), {"--config: needs a file"});
  check_failure(run_program({"train", "--config", "a.yaml", "--config=b.yaml"}), {"--config: is given twice; got a.yaml and b.yaml"});
}
