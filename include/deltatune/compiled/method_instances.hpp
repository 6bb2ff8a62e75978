// What is instantiated of each method for tensors X, as macros: deltatune::compiled has it for float on the default CPU backend (instances.hpp and
// adapter_instances.hpp); a program with models of another kind can compile theirs once in the same way.
#pragma once

// A method on Transformer<X>. EXTERN: `extern`, or nothing in the one file that instantiates.
#define DELTATUNE_ATTACH_INSTANCES(EXTERN, X, Plan)                                                                                 \
  EXTERN template Attached<X, Plan> attach_beside(context_of<X>&, Transformer<X>&, const Plan&, std::uint64_t, const std::string&); \
  EXTERN template Attached<X, Plan> attach(context_of<X>&, Transformer<X>&, const Plan&, std::uint64_t, const std::string&);

// With the folder of its adapters.
#define DELTATUNE_METHOD_INSTANCES(EXTERN, X, Plan) \
  DELTATUNE_ATTACH_INSTANCES(EXTERN, X, Plan)       \
  EXTERN template void save_adapter(context_of<X>&, const std::filesystem::path&, Transformer<X>&, const Plan&, Attachment<X>&, const std::string&);

// LIST(EXTERN, X, Plan) for the methods of deltatune.hpp, and for those that adapters.hpp adds.
#define DELTATUNE_CORE_METHODS(LIST, EXTERN, X) \
  LIST(EXTERN, X, LoraPlan)                     \
  LIST(EXTERN, X, SelectionPlan)
#define DELTATUNE_ADAPTER_METHODS(LIST, EXTERN, X) \
  LIST(EXTERN, X, AdaLoraPlan)                     \
  LIST(EXTERN, X, AdapterHubLoraPlan)              \
  LIST(EXTERN, X, BottleneckPlan)                  \
  LIST(EXTERN, X, DiffPruningPlan)                 \
  LIST(EXTERN, X, Ia3Plan)                         \
  LIST(EXTERN, X, MissPlan)                        \
  LIST(EXTERN, X, NormTuningPlan)                  \
  LIST(EXTERN, X, PTuningPlan)                     \
  LIST(EXTERN, X, PrefixPlan)                      \
  LIST(EXTERN, X, PromptPlan)                      \
  LIST(EXTERN, X, UnionPlan)                       \
  LIST(EXTERN, X, VeraPlan)                        \
  LIST(EXTERN, X, AnyPlan)

// The readers of adapters.hpp.
#define DELTATUNE_READER_INSTANCES(EXTERN, X)                                                                                 \
  EXTERN template Adapter<X> load_adapter(context_of<X>&, Transformer<X>&, const std::filesystem::path&, const std::string&); \
  EXTERN template Adapter<X> load_adapter_beside(context_of<X>&, Transformer<X>&, const std::filesystem::path&, const std::string&);
