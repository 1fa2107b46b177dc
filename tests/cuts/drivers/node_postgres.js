// node-postgres: simple and parameterised queries, a named statement, a transaction, an error.
const { Client } = require("pg");

async function main() {
  const client = new Client({ ssl: false });
  await client.connect();
  await client.query("select a, b from cut where a < 5");
  await client.query("select $1::text as name, $2::int as number", ["node", 7]);
  for (let n = 1; n < 4; n++) {
    await client.query({ name: "by-number", text: "select b from cut where a = $1", values: [n] });
  }
  await client.query("begin");
  await client.query("insert into cut values ($1, $2)", [6001, "node"]);
  await client.query("select 1/$1::int", [0]).catch(() => {});
  await client.query("rollback");
  await client.query("set datestyle to 'German, DMY'");
  await client.query("select current_date; select 2");
  await client.end();
}

main();
