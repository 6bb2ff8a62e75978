// What a run leaves behind and finds again: results that replace each other whole, checkpoints, signals, killed programs.
#include <sys/wait.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <csignal>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <thread>

#include "cli/language_model.hpp"
#include "cli/program.hpp"
#include "deltatune/io/folder_lock.hpp"
#include "deltatune/io/safetensors.hpp"
#include "deltatune/version.hpp"

using namespace deltatune;
using namespace deltatune::test;
using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

namespace {

Arguments operator+(Arguments a, const Arguments& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

void check_success(const Outcome& outcome) {
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
}

bool on_cpu() { return environment("DELTATUNE_DEVICE", "cpu") == std::string("cpu"); }

// A model and labelled texts.
struct ResultPlace {
  explicit ResultPlace(bool language_model = false) {
    if (language_model) {
      make_language_model(folder / "model");
    } else {
      make_text_model(folder / "model");
    }
    folder.file("data.csv", toy_table(24));
  }

  std::string path(const std::string& name) const { return (folder / name).string(); }

  // Four updates on one thread, with which results are the same to the bit; `more` may say otherwise.
  Arguments training(const std::string& out, const Arguments& more = {}) const {
    Arguments arguments{"train", "--model", path("model"), "--out", path(out)};
    const auto otherwise = [&](const std::string& option, const std::string& value) {
      if (std::find(more.begin(), more.end(), option) == more.end()) arguments = arguments + Arguments{option, value};
    };
    otherwise("--data", path("data.csv"));
    otherwise("--steps", "4");
    otherwise("--batch-size", "4");
    otherwise("--max-length", "16");
    otherwise("--learning-rate", "1e-2");
    if (on_cpu()) otherwise("--threads", "1");
    return arguments + more;
  }
  Outcome train(const std::string& out, const Arguments& more = {}, const std::string& before = "") const { return run_program(training(out, more), before); }

  Json evaluate(const std::string& adapter, const Arguments& more = {}) const {
    const Outcome outcome =
        run_program(Arguments{"evaluate", "--model", path("model"), "--adapter", path(adapter), "--data", path("data.csv"), "--json"} + more);
    check_success(outcome);
    return Json::parse(last_line(outcome.out));
  }

  // What a result is made of; its run.json has times in it, its README.md and train.yaml the folder's name.
  std::map<std::string, std::string> result(const std::string& out) const {
    std::map<std::string, std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder / out)) {
      const std::string name = entry.path().lexically_relative(folder / out).string();
      if (entry.is_regular_file() && !name.starts_with("checkpoint/") && !name.starts_with("unfinished/") && name != "metrics.jsonl" && name != "loss.svg" &&
          name != "run.json" && name != "README.md" && name != "train.yaml")
        files[name] = content_of(entry.path());
    }
    return files;
  }
  std::vector<std::string> temporaries() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.path()))
      if (entry.path().filename().string().ends_with(".tmp")) names.push_back(entry.path().string());
    return names;
  }

  TemporaryFolder folder;
};

std::string kill_at(int rename) {
  return "LD_PRELOAD=" + shell_quoted(DELTATUNE_KILL_AT_RENAME) + " ASAN_OPTIONS=verify_asan_link_order=0 DELTATUNE_KILL_AT_RENAME=" + std::to_string(rename);
}

bool was_killed(const Outcome& outcome) { return outcome.code == 137 || outcome.code == -1; }

}  // namespace

TEST_CASE("the program has a version", "[cli][results]") {
  const Outcome outcome = run_program({"--version"});
  CHECK(outcome.code == 0);
  CHECK(outcome.out == "deltatune " DELTATUNE_VERSION_STRING "\n");
}

TEST_CASE("a result is replaced whole, and only when asked for", "[cli][results]") {
  const ResultPlace place;
  check_success(place.train("out", {"--method", "lora+bitfit", "--rank", "2", "--save-every", "2"}));
  const std::string note = content_of(place.folder.file("out/notes.md", "my own\n"));
  std::filesystem::create_directory(place.folder / "out/logs");
  place.folder.file("out/logs/today.txt", "kept\n");
  place.folder.file("out/spiece.model", "of another model's tokenizer");
  const auto before = place.result("out");
  CHECK(before.at("vocab.txt") == content_of(place.folder / "model/vocab.txt"));

  check_failure(place.train("out", {"--method", "ia3"}), {place.path("out"), "already holds", "adapters.json", "--overwrite"});
  CHECK((place.result("out") == before));
  check_success(place.train("out", {"--method", "ia3", "--overwrite"}));
  CHECK_FALSE(std::filesystem::exists(place.folder / "out/adapters.json"));
  CHECK_FALSE(std::filesystem::exists(place.folder / "out/1_lora"));
  CHECK_FALSE(std::filesystem::exists(place.folder / "out/2_bitfit"));
  CHECK_FALSE(std::filesystem::exists(place.folder / "out/checkpoint"));
  CHECK_FALSE(std::filesystem::exists(place.folder / "out/spiece.model"));
  CHECK(content_of(place.folder / "out/notes.md") == "my own\n");
  CHECK(content_of(place.folder / "out/logs/today.txt") == "kept\n");
  check_success(place.train("fresh", {"--method", "ia3"}));
  CHECK(place.evaluate("out").at("eval_loss") == place.evaluate("fresh").at("eval_loss"));

  // A model in place of an adapter, and an adapter in place of a model.
  check_failure(place.train("out", {"--method", "full"}), {"--overwrite"});
  check_success(place.train("out", {"--method", "full", "--overwrite"}));
  CHECK_FALSE(std::filesystem::exists(place.folder / "out/adapter_config.json"));
  CHECK_FALSE(std::filesystem::exists(place.folder / "out/labels.json"));
  place.folder.file("out/merges.txt", "of the model's tokenizer");
  check_failure(place.train("out", {"--method", "ia3"}), {"already holds a model", "--overwrite"});
  check_success(place.train("out", {"--method", "ia3", "--overwrite"}));
  for (const char* name : {"model.safetensors", "config.json", "merges.txt"}) CHECK_FALSE(std::filesystem::exists(place.folder / "out" / name));
  CHECK(content_of(place.folder / "out/notes.md") == "my own\n");

  const Arguments merge{"merge", "--model", place.path("model"), "--adapter", place.path("fresh"), "--out", place.path("out")};
  check_failure(run_program(merge), {place.path("out"), "already holds", "--overwrite"});
  check_success(run_program(merge + Arguments{"--overwrite"}));
  CHECK_FALSE(std::filesystem::exists(place.folder / "out/adapter_config.json"));
  CHECK(std::filesystem::exists(place.folder / "out/model.safetensors"));
  check_failure(run_program(merge), {"already holds a model", "--overwrite"});
  CHECK(place.temporaries().empty());
}

TEST_CASE("a folder is not written over what is read from it", "[cli][results]") {
  const ResultPlace place;
  std::filesystem::create_directory_symlink(place.folder / "model", place.folder / "link");
  check_success(place.train("adapter", {"--method", "ia3"}));
  const std::string weights = content_of(place.folder / "model/model.safetensors");
  for (const char* out : {"model", "link", "model/.", "adapter/../model/"})
    for (const char* method : {"full", "lora"}) {
      INFO(out << " " << method);
      check_failure(place.train(out, {"--method", method, "--overwrite"}), {"the model's own folder"});
      check_failure(run_program({"merge", "--model", place.path("model"), "--adapter", place.path("adapter"), "--out", place.path(out), "--overwrite"}),
                    {"the model's own folder"});
    }
  check_failure(run_program({"merge", "--model", place.path("model"), "--adapter", place.path("adapter"), "--out", place.path("adapter/"), "--overwrite"}),
                {"the adapter's own folder"});
  CHECK(content_of(place.folder / "model/model.safetensors") == weights);
  CHECK(std::filesystem::exists(place.folder / "adapter/adapter_config.json"));
}

TEST_CASE("two processes do not write to one folder", "[cli][results]") {
  const ResultPlace place;
  check_success(place.train("out", {"--method", "ia3"}));
  const auto before = place.result("out");
  {
    const FolderLock lock(place.folder / "out");
    check_failure(place.train("out", {"--method", "lora", "--overwrite"}), {place.path("out"), "in use by another process"});
    check_failure(run_program({"merge", "--model", place.path("model"), "--adapter", place.path("out"), "--out", place.path("out"), "--overwrite"}),
                  {place.path("out")});
  }
  CHECK((place.result("out") == before));
  check_success(place.train("out", {"--method", "lora", "--overwrite"}));
}

TEST_CASE("a run is resumed with what it began with, and says where", "[cli][results]") {
  const ResultPlace place;
  const Arguments every{"--save-every", "2", "--rank", "2"};
  check_failure(place.train("out", every + Arguments{"--resume"}), {place.path("out/checkpoint"), "no checkpoint", "--resume auto"});
  CHECK_FALSE(std::filesystem::exists(place.folder / "out"));
  check_success(place.train("out", every + Arguments{"--resume", "auto"}));  // starts

  SECTION("other data, labels, weights, options") {
    std::string swapped = toy_table(24, {"fine", "poor", "neither"});
    place.folder.file("other.csv", swapped);
    place.folder.file("third.csv", toy_table(24, {"poor", "fine", "unsure"}));
    place.folder.file("reordered.csv", "text,label\n" + toy_table(48).substr(std::string("text,label\nbad day,poor\n").size()));
    for (const char* data : {"other.csv", "third.csv", "reordered.csv"}) {
      INFO(data);
      check_failure(place.train("out", every + Arguments{"--resume", "--data", place.path(data)}),
                    {"state.safetensors", "the same as in the run that is to be resumed"});
    }
    check_failure(place.train("out", every + Arguments{"--resume", "--data", place.path("other.csv")}), {"training_data"});
    check_failure(place.train("out", every + Arguments{"--resume", "--eval-data", place.path("data.csv")}), {"the same as in the run that is to be resumed"});
    check_failure(place.train("out", every + Arguments{"--resume", "--seed", "4"}), {"\"seed\":0", "\"seed\":4"});
    check_failure(place.train("out", {"--resume", "--rank", "3"}), {"method_options"});
    std::string weights = content_of(place.folder / "model/model.safetensors");
    weights[weights.size() - 2] = static_cast<char>(weights[weights.size() - 2] ^ 1);
    place.folder.file("model/model.safetensors", weights);
    check_failure(place.train("out", every + Arguments{"--resume"}), {"base_weights"});
  }
  SECTION("more steps") {
    const Outcome again = place.train("out", every + Arguments{"--resume", "--steps", "7"});
    check_success(again);
    CHECK(again.out.find("resuming after step 4 of 7") != std::string::npos);
    CHECK(again.err.find("note: 7 steps instead of 4") != std::string::npos);
    CHECK(again.err.find("linear schedule") != std::string::npos);
    std::istringstream lines(content_of(place.folder / "out/metrics.jsonl"));
    std::vector<Json> steps;
    for (std::string line; std::getline(lines, line);)
      if (Json entry = Json::parse(line); entry.contains("lr")) steps.push_back(entry);
    REQUIRE(steps.size() == 7);
    for (std::size_t i = 0; i < 7; ++i) CHECK(steps[i].at("step") == i + 1);
    CHECK(steps[6].at("lr").get<double>() == Approx(1e-2 / 6));  // the end of the line from step 2 of 7
    check_failure(place.train("out", every + Arguments{"--resume", "--steps", "3"}), {"--steps", "at least 7", "got 3"});
  }
  SECTION("more epochs of a finished run, by the name of another number of threads") {
    if (!on_cpu()) return;
    const Outcome again = place.train("out", every + Arguments{"--resume", "--threads", "2"});
    check_success(again);
    CHECK(again.err.find("note: 2 threads instead of 1") != std::string::npos);
  }
  SECTION("a new run where an unfinished one is") {
    std::filesystem::remove(place.folder / "out/adapter_config.json");
    check_failure(place.train("out", every), {"not finished", "--resume", "--overwrite"});
    check_success(place.train("out", every + Arguments{"--overwrite"}));
  }
}

TEST_CASE("killed at any rename, a run is resumed to the same bits", "[cli][results]") {
  if (!on_cpu()) return;  // no matter of the device
  const ResultPlace place;
  const Arguments options{"--rank", "2", "--save-every", "1", "--eval-every", "2", "--steps", "3", "--eval-data", place.path("data.csv"), "--dropout", "0.1"};
  check_success(place.train("whole", options));
  const auto whole = place.result("whole");
  REQUIRE(whole.size() == 4);  // tensors, configuration, labels, the tokenizer
  int renames = 1;
  for (bool finished = false; !finished; ++renames) {
    INFO("rename " << renames);
    std::filesystem::remove_all(place.folder / "out");
    const Outcome killed = place.train("out", options, kill_at(renames));
    finished = killed.code == 0;
    if (!finished) {
      REQUIRE(was_killed(killed));
      if (std::filesystem::exists(place.folder / "out/adapter_config.json")) place.evaluate("out");
      check_success(place.train("out", options + Arguments{"--resume", "auto"}));
    }
    CHECK((place.result("out") == whole));
    CHECK(place.temporaries() == std::vector<std::string>{});
  }
  CHECK(renames > 10);
}

TEST_CASE("killed at any rename, one result or the other is in the folder", "[cli][results]") {
  if (!on_cpu()) return;  // no matter of the device
  const ResultPlace place;
  const Arguments first{"--method", "lora+ia3", "--rank", "2", "--eval-fraction", "0"}, second{"--rank", "3", "--eval-fraction", "0"};
  check_success(place.train("first", first));
  check_success(place.train("second", second));
  const auto old_result = place.result("first"), new_result = place.result("second");
  const Arguments merge{"merge", "--model", place.path("model"), "--adapter", place.path("second"), "--out"};
  check_success(run_program(merge + Arguments{place.path("model2")}));
  const auto merged = place.result("model2");
  for (const bool merges : {false, true}) {
    int renames = 1;
    for (bool finished = false; !finished; ++renames) {
      INFO(merges << ", rename " << renames);
      std::filesystem::remove_all(place.folder / "out");
      std::filesystem::copy(place.folder / "first", place.folder / "out", std::filesystem::copy_options::recursive);
      place.folder.file("out/notes.md", "my own\n");
      const Outcome outcome = merges ? run_program(merge + Arguments{place.path("out"), "--overwrite"}, kill_at(renames))
                                     : place.train("out", second + Arguments{"--overwrite"}, kill_at(renames));
      finished = outcome.code == 0;
      if (!finished) REQUIRE(was_killed(outcome));
      for (const std::string& name : place.temporaries()) std::filesystem::remove_all(name);
      auto found = place.result("out");
      CHECK(found.erase("notes.md") == 1);
      CHECK((found == old_result || found == (merges ? merged : new_result)));
      if (finished) CHECK((found == (merges ? merged : new_result)));
    }
    CHECK(renames > 4);
  }
}

TEST_CASE("killed at random moments, a run is resumed to the same bits", "[cli][results]") {
  if (!on_cpu()) return;  // no matter of the device
  const ResultPlace place;
  const Arguments options{"--rank", "2", "--save-every", "1", "--eval-every", "7", "--eval-data", place.path("data.csv"), "--steps", "30", "--resume", "auto"};
  const auto begin = std::chrono::steady_clock::now();
  check_success(place.train("whole", options));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const auto whole = place.result("whole");
  const int wanted = environment("DELTATUNE_TEST_ALL", "OFF") == std::string("ON") ? 200 : 8;
  std::mt19937 random(7);
  std::uniform_real_distribution<double> moment(0.1 * seconds, 0.8 * seconds);
  for (int kills = 0; kills < wanted;) {
    const double after = moment(random);
    INFO("killed after " << after << " s");
    // In the foreground timeout waits until the killed process is gone, and with it its lock on the folder; and a run may end just when it is to be killed.
    const Outcome outcome = place.train("out", options, "timeout --foreground --preserve-status -s KILL " + std::to_string(after));
    if (outcome.code != 0) {
      INFO(outcome.err);
      REQUIRE(was_killed(outcome));
      if (++kills < wanted) continue;
      check_success(place.train("out", options));
    }
    CHECK((place.result("out") == whole));
    CHECK(place.temporaries() == std::vector<std::string>{});
    std::filesystem::remove_all(place.folder / "out");
  }
}

TEST_CASE("Ctrl-C and SIGTERM: the step is finished, a checkpoint saved, and the run goes on from there", "[cli][results]") {
  if (!on_cpu()) return;  // no matter of the device
  const ResultPlace place;
  const Arguments options{"--rank", "2", "--eval-fraction", "0", "--steps", "400"};
  check_success(place.train("whole", options));
  for (const int signal : {SIGINT, SIGTERM}) {
    const std::string out = "out" + std::to_string(signal);
    const Arguments arguments = place.training(out, options);
    const pid_t child = start_program(arguments, place.folder / "err");
    REQUIRE(child >= 0);
    int status = 0;
    const auto lines = [&] {
      const std::string text = content_of(place.folder / out / "metrics.jsonl");
      return std::count(text.begin(), text.end(), '\n');
    };
    while (lines() < 3 && ::waitpid(child, &status, WNOHANG) == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    ::kill(child, signal);
    REQUIRE(::waitpid(child, &status, 0) == child);
    const std::string said = content_of(place.folder / "err");
    INFO(said);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 128 + signal);
    CHECK(said.find("after step " + std::to_string(lines()) + " of 400") != std::string::npos);
    CHECK(said.find("--resume") != std::string::npos);
    CHECK(std::filesystem::exists(place.folder / out / "checkpoint/state.safetensors"));
    check_failure(place.train(out, options), {"not finished", "--resume"});
    check_success(place.train(out, options + Arguments{"--resume"}));
    CHECK((place.result(out) == place.result("whole")));
    CHECK_FALSE(std::filesystem::exists(place.folder / out / "checkpoint"));
  }
}

TEST_CASE("an earlier result stays until the new one is complete", "[cli][results]") {
  const ResultPlace place;
  const Arguments every{"--eval-every", "1", "--save-every", "1"};
  check_success(place.train("out", every + Arguments{"--method", "lora+bitfit", "--rank", "2"}));
  const auto all = [&](const std::string& out) {
    std::map<std::string, std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(place.folder / out))
      if (const std::string name = entry.path().lexically_relative(place.folder / out).string();
          entry.is_regular_file() && !name.starts_with("unfinished/") && !name.starts_with(".unfinished."))  // the new run's, and what it is writing
        files[name] = content_of(entry.path());
    return files;
  };
  const auto before = all("out");
  REQUIRE(before.contains("metrics.jsonl"));
  REQUIRE(before.contains("loss.svg"));
  const Arguments next = every + Arguments{"--method", "ia3", "--overwrite"};
  check_success(place.train("fresh", every + Arguments{"--method", "ia3"}));

  SECTION("a run that fails on its way") {
    CHECK(place.train("out", next + Arguments{"--learning-rate", "1e38", "--max-gradient-norm", "0", "--schedule", "constant", "--steps", "40"}).code == 1);
    CHECK((all("out") == before));
    check_failure(place.train("out", {"--method", "ia3"}), {"not finished", "--resume", "--overwrite"});
  }
  SECTION("a run that is killed on its way") {
    if (!on_cpu()) return;  // no matter of the device
    for (const int rename : {2, 6, 12, 20}) {
      INFO("rename " << rename);
      REQUIRE(was_killed(place.train("out", next, kill_at(rename))));
      CHECK((all("out") == before));
    }
    const Outcome resumed = place.train("out", next + Arguments{"--resume", "auto"});
    check_success(resumed);
    CHECK(resumed.out.find("resuming after step") != std::string::npos);
  }
  if (!std::filesystem::exists(place.folder / "out/1_lora")) {
    CHECK((place.result("out") == place.result("fresh")));
    const std::string metrics = content_of(place.folder / "out/metrics.jsonl");
    CHECK(std::count(metrics.begin(), metrics.end(), '\n') == 8);  // four steps, four evaluations
  }
  const Outcome again = place.train("out", next);
  check_success(again);
  CHECK(again.out.find("the earlier result stays until the new one is complete") != std::string::npos);
  CHECK((place.result("out") == place.result("fresh")));
  CHECK_FALSE(std::filesystem::exists(place.folder / "out/unfinished"));
  CHECK(Json::parse(content_of(place.folder / "out/run.json")).at("finished") == true);
  CHECK(place.temporaries().empty());
}

TEST_CASE("a finished run has nothing to resume", "[cli][results]") {
  const ResultPlace place;
  const Arguments options{"--rank", "2"};
  check_success(place.train("out", options));
  CHECK_FALSE(std::filesystem::exists(place.folder / "out/checkpoint"));
  const auto before = place.result("out");
  const std::string record = content_of(place.folder / "out/run.json");
  for (const Arguments& resume : {Arguments{"--resume"}, Arguments{"--resume", "auto"}}) {
    const Outcome outcome = place.train("out", options + resume);
    check_success(outcome);
    CHECK(outcome.out.find("is finished: 4 steps") != std::string::npos);
  }
  CHECK((place.result("out") == before));
  CHECK(content_of(place.folder / "out/run.json") == record);
  check_failure(place.train("out", options + Arguments{"--resume", "--seed", "4"}), {"run.json", "is not that of the run", "\"seed\":4"});
  check_failure(place.train("out", options + Arguments{"--resume", "--steps", "7"}), {"finished after step 4", "--init-adapter", "--save-every"});
  check_success(place.train("kept", options + Arguments{"--save-every", "3"}));
  const Outcome kept = place.train("kept", options + Arguments{"--save-every", "3", "--resume"});
  check_success(kept);
  CHECK(kept.out.find("is finished: 4 steps") != std::string::npos);
  const Outcome more = place.train("kept", options + Arguments{"--save-every", "3", "--resume", "--steps", "5"});
  check_success(more);
  CHECK(more.out.find("resuming after step 4 of 5") != std::string::npos);
  CHECK(more.out.find("1 step in") != std::string::npos);
}

TEST_CASE("what is no result is not replaced", "[cli][results]") {
  const ResultPlace place;
  check_success(place.train("adapter", {"--method", "ia3"}));
  const Arguments merge{"merge", "--model", place.path("model"), "--adapter", place.path("adapter")};
  for (const char* name : {"empty", "project", "foreign", "labels", "tokenizer", "config"}) std::filesystem::create_directory(place.folder / name);
  check_success(place.train("empty", {"--method", "ia3"}));
  place.folder.file("project/notes.md", "my own\n");
  std::filesystem::create_directory(place.folder / "project/src");
  check_failure(place.train("project", {"--method", "ia3"}), {place.path("project"), "notes.md, src", "empty folder", "--overwrite"});
  check_failure(place.train("project", {"--method", "ia3", "--resume", "auto"}), {"notes.md"});
  check_failure(run_program(merge + Arguments{"--out", place.path("project")}), {place.path("project"), "notes.md", "--overwrite"});
  check_success(place.train("project", {"--method", "ia3", "--overwrite"}));
  check_success(run_program(merge + Arguments{"--out", place.path("project"), "--overwrite"}));
  CHECK(content_of(place.folder / "project/notes.md") == "my own\n");
  CHECK_FALSE(std::filesystem::exists(place.folder / "project/metrics.jsonl"));  // of the result that was replaced

  for (const auto& [folder, file] : {std::pair{"foreign", "run.json"}, {"labels", "labels.json"}, {"tokenizer", "tokenizer.json"}}) {
    const std::string name = std::string(folder) + "/" + file, content = content_of(place.folder.file(name, "[\"mine\"]"));
    for (const Arguments& more : {Arguments{"--overwrite"}, Arguments{"--overwrite", "--resume", "auto"}})
      check_failure(place.train(folder, Arguments{"--method", "ia3"} + more), {place.path(name), "no part of an earlier result"});
    check_failure(run_program(merge + Arguments{"--out", place.path(folder), "--overwrite"}), {place.path(name)});
    CHECK(content_of(place.folder / name) == content);
  }
  place.folder.file("config/config.json", "{}");
  check_failure(run_program(merge + Arguments{"--out", place.path("config"), "--overwrite"}), {place.path("config/config.json")});
  check_failure(place.train("config", {"--method", "full", "--overwrite"}), {place.path("config/config.json")});
  check_success(place.train("config", {"--method", "ia3", "--overwrite"}));
  CHECK(content_of(place.folder / "config/config.json") == "{}");
}

TEST_CASE("a folder may be named by its name alone", "[cli][results]") {
  const ResultPlace place;
  const std::string there = "cd " + shell_quoted(place.folder.path().string()) + ";";
  check_success(place.train("adapter", {"--method", "ia3"}));
  Arguments arguments = place.training("out", {"--method", "ia3"});
  arguments[4] = "named";
  check_success(run_program(arguments, there));
  CHECK((place.result("named") == place.result("adapter")));
  for (const std::string out : {"merged", "below/merged", "./dot", "slash/"}) {
    INFO(out);
    check_success(run_program({"merge", "--model", "model", "--adapter", "named", "--out", out}, there));
    CHECK(std::filesystem::exists(place.folder / out / "config.json"));
  }
}

TEST_CASE("a result is used as it was trained, or it is said that it is not", "[cli][results]") {
  const ResultPlace place;
  std::string rows = "text,second,label\n";
  for (int i = 0; i < 12; ++i) rows += i % 2 == 0 ? "good day,good night,same\n" : "good day,bad night,other\n";
  const std::string data = place.folder.file("pairs.csv", rows).string();
  const auto use = [&](const std::string& command, const std::string& adapter, const Arguments& more) {
    return run_program(Arguments{command, "--model", place.path("model"), "--adapter", place.path(adapter), "--data", data} + more);
  };
  check_success(place.train("pair", {"--data", data, "--text-pair-column", "second", "--new-head"}));
  check_success(place.train("single", {"--data", data, "--new-head"}));
  for (const char* command : {"evaluate", "predict"}) {
    check_failure(use(command, "pair", {}), {place.path("pair"), "pairs of texts", "--text-pair-column second"});
    check_failure(use(command, "single", {"--text-pair-column", "second"}), {place.path("single"), "single texts", "leave it out"});
    check_success(use(command, "pair", {"--text-pair-column", "second"}));
    check_success(use(command, "single", {}));
  }
  check_failure(place.train("x", {"--data", data, "--init-adapter", place.path("pair")}), {place.path("pair"), "pairs of texts"});
  check_success(run_program({"merge", "--model", place.path("model"), "--adapter", place.path("pair"), "--out", place.path("merged")}));
  check_failure(run_program({"evaluate", "--model", place.path("merged"), "--data", data}), {place.path("merged"), "pairs of texts"});

  CHECK(use("evaluate", "single", {}).err.find("base weights") == std::string::npos);
  Json record = Json::parse(content_of(place.folder / "single/run.json"));
  record["finished"] = false;
  place.folder.file("single/run.json", record.dump());
  for (const char* command : {"evaluate", "predict"})
    CHECK(use(command, "single", {}).err.find("note: " + place.path("single") + ": the training run was not finished") != std::string::npos);
  std::string weights = content_of(place.folder / "model/model.safetensors");
  weights[weights.size() - 2] = static_cast<char>(weights[weights.size() - 2] ^ 1);
  place.folder.file("model/model.safetensors", weights);
  CHECK(use("evaluate", "single", {}).err.find("note: " + place.path("single") + ": was trained on other base weights") != std::string::npos);
}

TEST_CASE("messages name an adapter by its folder", "[cli][results]") {
  const ResultPlace place;
  check_success(place.train("prefix", {"--method", "prefix", "--virtual-tokens", "2"}));
  check_failure(run_program({"merge", "--model", place.path("model"), "--adapter", place.path("prefix"), "--out", place.path("merged")}),
                {place.path("prefix") + ": cannot be merged"});
}

TEST_CASE("one step trains", "[cli][results]") {
  const ResultPlace place;
  const Outcome outcome = place.train("out", {"--method", "bitfit", "--steps", "1", "--eval-fraction", "0"});
  check_success(outcome);
  CHECK(Json::parse(content_of(place.folder / "out/metrics.jsonl")).at("lr").get<double>() == Approx(0.5e-2));
  const SafeTensors trained = SafeTensors::open(place.folder / "out/adapter_model.safetensors"),
                    base = SafeTensors::open(place.folder / "model/model.safetensors");
  Index moved = 0;
  for (const auto& [name, tensor] : trained.tensors()) {
    const TensorInfo* const before = base.find(name);
    if (before != nullptr && floats(tensor) != floats(*before)) ++moved;
  }
  CHECK(moved > 3);
}

TEST_CASE("a trained adapter is trained further", "[cli][results]") {
  const ResultPlace place;
  Json config = Json::parse(content_of(place.folder / "model/config.json"));
  config.update({{"hidden_dropout_prob", 0.0}, {"attention_probs_dropout_prob", 0.0}, {"classifier_dropout", 0.0}});
  place.folder.file("model/config.json", config.dump());
  const auto first_loss = [&](const std::string& out) {
    return Json::parse(content_of(place.folder / out / "metrics.jsonl").substr(0, content_of(place.folder / out / "metrics.jsonl").find('\n')))
        .at("loss")
        .get<double>();
  };
  for (const Arguments& method : {Arguments{"--method", "lora", "--rank", "3"}, Arguments{"--method", "dora+bitfit", "--rank", "2"},
                                  Arguments{"--method", "pfeiffer", "--reduction-factor", "4"}, Arguments{"--method", "prefix", "--virtual-tokens", "3"},
                                  Arguments{"--method", "lora", "--init", "pissa", "--rank", "2"}}) {
    const std::string name = method[1] + (method.size() > 4 ? method.back() + method[3] : "");
    INFO(name);
    check_success(place.train(name, method + Arguments{"--steps", "20", "--eval-fraction", "0"}));
    check_success(place.train(name + "_further", {"--init-adapter", place.path(name), "--batch-size", "24", "--eval-fraction", "0"}));
    // It begins where the other one ended.
    CHECK(first_loss(name + "_further") == Approx(place.evaluate(name).at("eval_loss").get<double>()).epsilon(1e-4));
    CHECK(place.evaluate(name + "_further").at("eval_loss").get<double>() < place.evaluate(name).at("eval_loss").get<double>());
  }
  check_failure(place.train("x", {"--init-adapter", place.path("lora"), "--rank", "4"}), {"--init-adapter", "--rank"});
  check_failure(place.train("x", {"--init-adapter", place.path("lora"), "--method", "lora"}), {"--init-adapter", "--method"});
  check_failure(place.train("x", {"--init-adapter", place.path("nothing")}), {"nothing"});
  place.folder.file("other.csv", toy_table(24, {"a", "b", "c"}));
  check_failure(place.train("x", {"--init-adapter", place.path("prefix"), "--data", place.path("other.csv")}),
                {place.path("prefix"), "other classes", "poor", "\"a\""});
  CHECK_FALSE(std::filesystem::exists(place.folder / "x"));
}

TEST_CASE("a result says how it came about, and is evaluated as it was trained", "[cli][results]") {
  const ResultPlace place;
  place.folder.file("data.csv", "text,label\ngood good bad,fine\ngood good night,poor\ngood good so,neither\ngood good day day,fine\n");
  check_success(place.train("out", {"--rank", "2", "--max-length", "4", "--seed", "3", "--eval-fraction", "0"}));
  const Json record = Json::parse(content_of(place.folder / "out/run.json"));
  CHECK(record.at("version") == DELTATUNE_VERSION_STRING);
  CHECK(record.at("seed") == 3);
  CHECK(record.at("max_length") == 4);
  CHECK(record.at("finished") == true);
  CHECK(record.at("options").at("--rank") == "2");
  CHECK(record.at("training_data").get<std::string>().size() == 16);
  CHECK(record.at("base_weights").get<std::string>().size() == 16);
  const Json short_texts = place.evaluate("out", {"--max-length", "4"}), whole_texts = place.evaluate("out", {"--max-length", "16"});
  CHECK(short_texts.at("eval_loss") != whole_texts.at("eval_loss"));
  CHECK(place.evaluate("out").at("eval_loss") == short_texts.at("eval_loss"));
  const Arguments predict{"predict", "--model", place.path("model"), "--adapter", place.path("out"), "--data", place.path("data.csv")};
  const Outcome predicted = run_program(predict);
  CHECK(predicted.out == run_program(predict + Arguments{"--max-length", "4"}).out);
  CHECK(predicted.err.find("note: --max-length 4") != std::string::npos);
  check_success(run_program({"merge", "--model", place.path("model"), "--adapter", place.path("out"), "--out", place.path("merged")}));
  const Outcome merged = run_program({"evaluate", "--model", place.path("merged"), "--data", place.path("data.csv"), "--json"});
  CHECK(Json::parse(last_line(merged.out)).at("eval_loss").get<double>() == Approx(short_texts.at("eval_loss").get<double>()).margin(1e-5));
}

TEST_CASE("early stopping and the time are said", "[cli][results]") {
  const ResultPlace place;
  const Outcome outcome = place.train("out", {"--steps", "200", "--learning-rate", "1e-9", "--eval-every", "1", "--patience", "2", "--json", "--rank", "2"});
  check_success(outcome);
  const Json summary = Json::parse(last_line(outcome.out));
  if (summary.at("stopped_early").get<bool>()) CHECK(outcome.out.find("stopped early after step") != std::string::npos);
  CHECK(summary.at("stopped_early").get<bool>() == (summary.at("steps") < 200));
  CHECK(outcome.out.find(" steps in ") != std::string::npos);
  CHECK(summary.at("seconds").get<double>() > 0);
}

TEST_CASE("the metric asked for decides which result is kept", "[cli][results]") {
  const ResultPlace place;
  const Outcome outcome = place.train("out", {"--steps", "6", "--learning-rate", "3e-2", "--eval-every", "1", "--metric", "matthews", "--json", "--rank", "2",
                                              "--eval-data", place.path("data.csv")});
  const Json summary = Json::parse(last_line(outcome.out));
  CHECK(summary.at("metric") == "matthews");
  CHECK(outcome.out.find(", matthews ") != std::string::npos);
  std::istringstream lines(content_of(place.folder / "out/metrics.jsonl"));
  double highest = -2;
  Index first = 0;  // step with the highest
  for (std::string text; std::getline(lines, text);) {
    const Json line = Json::parse(text);
    if (!line.contains("eval_matthews") || line.at("eval_matthews").get<double>() <= highest) continue;
    highest = line.at("eval_matthews").get<double>();
    first = line.at("step").get<Index>();
  }
  CHECK(summary.at("best_metric").get<double>() == highest);
  CHECK(summary.at("best_step").get<Index>() >= first);
  const Json record = Json::parse(content_of(place.folder / "out/run.json"));
  CHECK(record.at("metric") == "matthews");
  CHECK(record.at("best_metric").get<double>() == highest);
  const Json again =
      last_json(checked({"evaluate", "--model", place.path("model"), "--adapter", place.path("out"), "--data", place.path("data.csv"), "--json"}));
  CHECK(again.at("matthews").get<double>() == highest);
  CHECK(again.contains("weighted_f1"));
}

TEST_CASE("runs side by side", "[cli][results]") {
  const ResultPlace place;
  const std::string data = place.path("data.csv"), other = place.folder.file("other.csv", toy_table(9)).string();
  const auto train = [&](const char* out, const Arguments& more) { check_success(place.train(out, Arguments{"--steps", "3"} + more)); };
  train("a", {"--learning-rate", "1e-9", "--rank", "2", "--eval-data", data});
  train("b", {"--learning-rate", "3e-2", "--rank", "4", "--eval-data", data, "--metric", "loss"});
  train("c", {"--learning-rate", "3e-2", "--rank", "2", "--eval-data", data, "--metric", "loss"});
  train("d", {"--learning-rate", "3e-2", "--rank", "2", "--eval-data", other, "--metric", "loss"});
  const auto compare = [&](const Arguments& runs) {
    Arguments arguments{"compare", "--json"};
    for (const std::string& run : runs) arguments.push_back(place.path(run));
    return checked(arguments);
  };
  const Outcome same = compare({"c", "b"});
  const Json json = last_json(same);
  const auto loss = [&](std::size_t run) { return json.at("runs").at(run).at("eval_loss").get<double>(); };
  CHECK(json.at("best") == place.path(loss(0) <= loss(1) ? "c" : "b"));
  CHECK(json.at("different").at("method_options") == Json{{{"--rank", "2"}}, {{"--rank", "4"}}});
  CHECK_FALSE(json.at("different").contains("seed"));
  CHECK_FALSE(json.at("different").contains("seconds"));
  CHECK(json.at("runs").at(1).at("trainable_parameters") == 2 * json.at("runs").at(0).at("trainable_parameters").get<Index>() - 3 * 32 - 3);
  CHECK(same.out.find(json.at("best").get<std::string>() + " *  lora") != std::string::npos);
  CHECK(same.err.empty());

  CHECK(last_json(compare({"a", "b"})).at("best").is_null());  // by two metrics
  const Outcome apart = compare({"b", "d"});
  CHECK(last_json(apart).at("best").is_null());
  CHECK(apart.err.find("note: the runs were not evaluated on the same texts") != std::string::npos);
  check_failure(run_program({"compare", place.path("a"), place.path("model")}), {place.path("model"), "has no run.json of a training run"});
  CHECK(run_program({"compare", place.path("a")}).code == 1);
  check_success(run_program({"merge", "--model", place.path("model"), "--adapter", place.path("a"), "--out", place.path("merged")}));
  check_failure(run_program({"compare", place.path("a"), place.path("merged")}), {"merged/run.json", "is not of a training run", "got \"merge\""});
}
