import java.io.FileInputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;

/**
 * Runs the statements of a SQL file, one after the other, in a cluster inside this process:
 * {@code FlinkSql SETTINGS.properties FILE.sql}. It waits for each INSERT. A line that ends with a semicolon ends a
 * statement.
 */
class FlinkSql {
    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        try (FileInputStream file = new FileInputStream(arguments[0])) {
            settings.load(file);
        }
        Map<String, String> map = new TreeMap<>();
        settings.stringPropertyNames().forEach(name -> map.put(name, settings.getProperty(name)));
        TableEnvironment tables = TableEnvironment.create(EnvironmentSettings.newInstance()
                .inStreamingMode()
                .withConfiguration(Configuration.fromMap(map))
                .build());
        for (String statement : Files.readString(Path.of(arguments[1])).split(";\\s*(\n|$)")) {
            if (!statement.isBlank()) {
                var result = tables.executeSql(statement);
                if (result.getJobClient().isPresent()) {
                    result.await();
                }
            }
        }
    }
}
