# A storm of CancelRequests (label protocol). See run in this folder.
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.cpp)
add_executable(cancels ${sources})
target_include_directories(cancels PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(cancels PRIVATE pgsluice_test_support)
if(TARGET pgsluice)
  add_test(NAME cancels COMMAND /usr/bin/python3 -B ${CMAKE_CURRENT_LIST_DIR}/run)
  set_tests_properties(cancels PROPERTIES LABELS protocol RUN_SERIAL ON TIMEOUT 900
    ENVIRONMENT "PGSLUICE_BIN=$<TARGET_FILE:pgsluice>;PGSLUICE_CANCELS=$<TARGET_FILE:cancels>;PGSLUICE_SLOW=${PGSLUICE_SLOW}")
endif()
